//! The program that is put on a host.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use flate2::Compression;
use flate2::read::GzEncoder;
use sha2::{Digest, Sha256};

/// Length of the content id in an agent's file name, in hexadecimal digits.
pub(crate) const SHORT_ID: usize = 32;
/// What an agent's file name begins with; its short content id follows.
pub(crate) const AGENT_PREFIX: &str = "toril-";

/// An agent program: its content id, and its bytes when a host lacks it. A clone is cheap.
///
/// Making one reads and hashes the whole file, which takes milliseconds: [`PendingImage`] does it beside other things.
#[derive(Debug, Clone)]
pub struct AgentImage(Arc<Image>);

#[derive(Debug)]
struct Image {
    path: PathBuf,
    file: Mutex<File>,
    id: String,
    size: u64,
    compressed: OnceLock<Vec<u8>>,
}

/// The agent's program could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the agent's program {} could not be {doing}", path.display())]
pub struct ImageError {
    path: PathBuf,
    doing: &'static str,
    source: Arc<io::Error>,
}

/// The running program as an image that a thread reads and hashes, while the connection is made. A clone is cheap.
#[derive(Debug, Clone, Default)]
pub struct PendingImage(Arc<OnceLock<Result<AgentImage, ImageError>>>);

impl PendingImage {
    /// Begins with it.
    #[must_use]
    pub fn of_this_program() -> Self {
        let image = Self::default();
        let same = image.clone();
        // Where there can be no thread, whoever waits for the image makes it.
        drop(thread::Builder::new().name("image".into()).spawn(move || same.wait().map(drop)));
        image
    }

    /// The image, once it is there.
    ///
    /// # Errors
    /// [`ImageError`] when the program cannot be read.
    pub fn wait(&self) -> Result<AgentImage, ImageError> {
        self.0.get_or_init(AgentImage::of_this_program).clone()
    }

    /// As [`PendingImage::wait`]; needs a tokio runtime, and does not hold it up.
    ///
    /// # Errors
    /// [`ImageError`] when the program cannot be read.
    pub async fn ready(&self) -> Result<AgentImage, ImageError> {
        if let Some(image) = self.0.get() {
            return image.clone();
        }
        let same = self.clone();
        let image = tokio::task::spawn_blocking(move || same.wait()).await;
        // A runtime that ends takes on nothing more.
        image.unwrap_or_else(|_| self.wait())
    }
}

impl AgentImage {
    /// The running program itself, even if its file was replaced or removed since it was started.
    ///
    /// # Errors
    /// [`ImageError`] when it cannot be read.
    pub fn of_this_program() -> Result<Self, ImageError> {
        // Named by process id, so that a child finds the same file by it.
        Self::from_file(&PathBuf::from(format!("/proc/{}/exe", std::process::id())))
    }

    /// Any other program that speaks the protocol when it is started with the argument `agent`.
    ///
    /// # Errors
    /// [`ImageError`] when it cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, ImageError> {
        let error =
            |doing| move |source| ImageError { path: path.to_owned(), doing, source: Arc::new(source) };
        let path = std::path::absolute(path).map_err(error("found"))?;
        let mut file = File::open(&path).map_err(error("opened"))?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        let mut size = 0;
        loop {
            let count = file.read(&mut buffer).map_err(error("read"))?;
            if count == 0 {
                break;
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
            size += count as u64;
        }
        let id = hex::encode(hasher.finalize());
        Ok(Self(Arc::new(Image { path, file: Mutex::new(file), id, size, compressed: OnceLock::new() })))
    }

    /// SHA-256 of the program, in hexadecimal.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Size of the program, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Size of the program as it is sent, in bytes; `None` while no host has lacked it.
    #[must_use]
    pub fn compressed_size(&self) -> Option<usize> {
        self.0.compressed.get().map(Vec::len)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The program in gzip's format, made when it is first asked for.
    pub(crate) fn compressed(&self) -> Result<&[u8], ImageError> {
        if let Some(bytes) = self.0.compressed.get() {
            return Ok(bytes);
        }
        // The lock also keeps several connections from compressing the same program.
        let mut file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = self.0.compressed.get() {
            return Ok(bytes);
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| GzEncoder::new(&mut *file, Compression::fast()).read_to_end(&mut bytes))
            .map_err(|source| ImageError {
                path: self.0.path.clone(),
                doing: "compressed",
                source: Arc::new(source),
            })?;
        Ok(self.0.compressed.get_or_init(|| bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_content_and_the_compressed_form_unpacks_to_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc".repeat(100_000)).unwrap();
        let image = AgentImage::from_file(file.path()).unwrap();
        assert_eq!(image.size(), 300_000);
        assert_eq!(image.id().len(), 64);
        assert_eq!(image.compressed_size(), None);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(image.compressed().unwrap()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(hex::encode(Sha256::digest(&unpacked)), image.id());
        assert!(image.compressed_size().unwrap() < 3_000);
    }

    #[test]
    fn a_pending_image_is_the_same_for_everybody() {
        let pending = PendingImage::of_this_program();
        let image = pending.clone().wait().unwrap();
        assert_eq!(image.id(), AgentImage::of_this_program().unwrap().id());
        assert!(Arc::ptr_eq(&image.0, &pending.wait().unwrap().0));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = AgentImage::from_file(Path::new("/no/such/program")).unwrap_err();
        assert_eq!(error.to_string(), "the agent's program /no/such/program could not be opened");
    }
}
