//! The image that our own containers are made of.

use std::io;
use std::path::Path;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::CreateImageOptions;
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::archive::NewFile;
use super::archive::file::archive_of;
use super::body::watch_upload;
use super::fault::About;
use super::{Engine, EngineError};

/// Where the binary lies in the image, whichever of the two it is.
pub const AGENT_PATH: &str = "/cofferdam";
/// On images that were made here.
pub const AGENT_IMAGE_LABEL: &str = "cofferdam.agent-image";

const REPOSITORY: &str = "cofferdam-agent";
const OWN_BINARY: &str = "/proc/self/exe";
/// Twenty megabytes need no longer.
const IMPORT: Duration = Duration::from_secs(10 * 60);

impl Engine {
    /// The image for helpers and the hold journal, with the binary at [`AGENT_PATH`]: that of our own container, or,
    /// outside of one, an image that is made of the running binary on first use
    /// (`cofferdam-agent:<first digits of its digest>`).
    pub async fn agent_image(&self) -> Result<String, EngineError> {
        match self.own_image().await? {
            Some(image) => Ok(image),
            None => self.agent_image_of(Path::new(OWN_BINARY)).await,
        }
    }

    /// An image of nothing but `binary` at [`AGENT_PATH`]; it is made when there is none yet.
    pub async fn agent_image_of(&self, binary: &Path) -> Result<String, EngineError> {
        let digest = digest_of(binary).await.map_err(unreadable)?;
        let tag = &digest[..12];
        let image = format!("{REPOSITORY}:{tag}");
        if !self.has_image(&image).await? {
            self.import(binary, tag).await?;
        }
        Ok(image)
    }

    /// The image of our own container, when it is one of Cofferdam's: the binary comes from the image, not from a mount.
    pub(super) async fn own_image(&self) -> Result<Option<String>, EngineError> {
        let Some(own) = self.own_container().await? else {
            return Ok(None);
        };
        let executable = std::env::current_exe().unwrap_or_default();
        let is_ours = executable == Path::new(AGENT_PATH) && own.mount_of(AGENT_PATH).is_none();
        Ok(is_ours.then_some(own.image_id))
    }

    async fn has_image(&self, image: &str) -> Result<bool, EngineError> {
        match self.client.inspect_image(image).await {
            Ok(_) => Ok(true),
            Err(Error::DockerResponseServerError {
                status_code: 404, ..
            }) => Ok(false),
            Err(error) => Err(self.fault(error, About::Engine, format!("inspect image {image}"))),
        }
    }

    async fn import(&self, binary: &Path, tag: &str) -> Result<(), EngineError> {
        let binary = File::open(binary).await.map_err(unreadable)?;
        let file = NewFile {
            name: AGENT_PATH.trim_start_matches('/'),
            bytes: binary.metadata().await.map_err(unreadable)?.len(),
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        let (body, watch) = watch_upload(archive_of(&file, Box::pin(binary))?);
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(REPOSITORY.to_owned()),
            tag: Some(tag.to_owned()),
            changes: vec![
                format!("ENTRYPOINT [\"{AGENT_PATH}\"]"),
                format!("LABEL {AGENT_IMAGE_LABEL}=1"),
            ],
            ..CreateImageOptions::default()
        };
        let body = bollard::body_try_stream(body);
        let progress = self.patient.create_image(Some(options), Some(body), None);
        let imported = tokio::time::timeout(IMPORT, progress.try_for_each(|_| async { Ok(()) }));
        let imported = imported.await.unwrap_or(Err(Error::RequestTimeoutError));
        match (imported, watch.failure()) {
            (_, Some(source)) => Err(unreadable(source)),
            (Ok(()), None) => Ok(()),
            (Err(error), None) => {
                let action = format!("import {REPOSITORY}:{tag}, the image of helper containers");
                Err(self.fault(error, About::Engine, action))
            }
        }
    }
}

fn unreadable(source: io::Error) -> EngineError {
    EngineError::Source {
        receiver: "the image of helper containers".to_owned(),
        source,
    }
}

/// SHA-256 in hexadecimal digits.
async fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path).await?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            let digest = hasher.finalize();
            return Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&buffer[..read]);
    }
}
