//! The image that our own containers are made of.

use super::{Engine, EngineError};

impl Engine {
    /// The image for helpers and the hold journal: that of our own container, or, outside of one, an image that is made
    /// of the running binary on first use (`cofferdam-agent:<first digits of its digest>`).
    pub async fn agent_image(&self) -> Result<String, EngineError> {
        todo!()
    }
}
