//! The library's one error type. Every variant carries the facts that its one-line message needs:
//! which file or key, what is wrong, and what to do. The library never prints and never exits.

use std::io;
use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by what the user can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation (disk full, no permission, not found).
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "read", "write", "create", "rename".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An audio file that cannot be used, with the reason in the user's words.
    #[error("{}: {reason}", path.display())]
    Audio {
        /// The audio file.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// A table, manifest, shard or checkpoint whose content is not what it should be.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, and where.
        reason: String,
    },
    /// A flag or configuration key with a value that cannot work.
    #[error("{key}: {problem}")]
    Config {
        /// The flag (`--steps`) or dotted key (`model.depth`).
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Tensors that do not fit together: a defect of the caller, reported instead of a crash.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The operation that checked.
        op: &'static str,
        /// What it needs.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// A NaN or an infinity, with the first tensor in which it appeared.
    #[error("{tensor} became {value} at step {step}{advice}")]
    NonFinite {
        /// Name of the first tensor that went bad.
        tensor: String,
        /// The value found: NaN, inf or -inf.
        value: f32,
        /// The training step during which it appeared, the first being 1; 0 for what was there before.
        step: u64,
        /// Where the last good checkpoint is and what to try; starts with "; " or is empty.
        advice: String,
    },
    /// A run that cannot fit into memory, refused before it starts.
    #[error("needs {} of memory, {} are available: {advice}", human_bytes(*needed_bytes), human_bytes(*available_bytes))]
    Memory {
        /// Predicted peak, in bytes.
        needed_bytes: u64,
        /// What the machine has, in bytes.
        available_bytes: u64,
        /// The setting that would make it fit.
        advice: String,
    },
    /// A GPU, its driver or a kernel that did not do its work.
    #[error("{problem}")]
    Device {
        /// What was tried, and what the driver said.
        problem: String,
    },
    /// The user pressed Ctrl-C (or SIGTERM came). Files that were whole by then stay; nothing else is saved by this error
    /// (training, which saves its state, ends without one).
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An [`Error::Io`] for use in `map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// An [`Error::Audio`].
    pub fn audio(path: impl AsRef<Path>, reason: impl Into<String>) -> Error {
        Error::Audio { path: path.as_ref().to_path_buf(), reason: reason.into() }
    }

    /// An [`Error::Format`].
    pub fn format(path: impl AsRef<Path>, reason: impl Into<String>) -> Error {
        Error::Format { path: path.as_ref().to_path_buf(), reason: reason.into() }
    }

    /// An [`Error::Config`].
    pub fn config(key: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Config { key: key.into(), problem: problem.into() }
    }

    /// An [`Error::Device`].
    pub fn device(problem: impl Into<String>) -> Error {
        Error::Device { problem: problem.into() }
    }

    /// An [`Error::Shape`].
    pub fn shape(op: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Error {
        Error::Shape { op, expected: expected.into(), got: got.into() }
    }
}

/// Bytes for people: `1.4 GiB`, `312 MiB`, `17 KiB`.
pub fn human_bytes(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}
