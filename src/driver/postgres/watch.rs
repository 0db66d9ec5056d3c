//! Clients that might outlive the exec that they were started by.
//!
//! The engine cannot end a command that it has started, and a `pg_dump` that nobody listens to any more keeps its
//! transaction and its locks. The agent ends its own clients; those that run without one are known to the server by a name
//! of their own, and the server ends their sessions.

use tracing::debug;

use super::queries::end_sessions;
use super::server::Server;
use crate::agent::inside::{ClientEnvironment, Removals};

/// Watches over the clients of one step; unless it is dismissed, it ends what is left of them when it is dropped.
pub struct Watch {
    server: Server,
    removals: Removals,
    application: String,
    dismissed: bool,
}

impl Watch {
    pub fn new(server: &Server, removals: &Removals) -> Self {
        Self {
            server: server.clone(),
            removals: removals.clone(),
            application: server.application_of_step(),
            dismissed: false,
        }
    }

    /// `environment`, with the name that the server knows these clients by.
    pub fn mark(&self, mut environment: ClientEnvironment) -> ClientEnvironment {
        environment.set("PGAPPNAME", &self.application);
        environment
    }

    /// All clients are known to have ended.
    pub fn dismiss(mut self) {
        self.dismissed = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.dismissed {
            return;
        }
        let server = self.server.clone();
        let order = end_sessions(&self.application);
        self.removals.spawn(async move {
            if let Err(error) = server.execute(server.maintenance_db(), &[&order]).await {
                debug!("could not end the sessions of abandoned clients: {error}");
            }
        });
    }
}
