//! safetensors files, streamed: tensors are written from and read into slices that exist already, so that no
//! second copy of a model is in memory. Nothing that a file says is believed before it was compared with the
//! file's size.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::files::{require_regular_file, write_atomic};

/// The length of the header, in front of it.
const PREFIX_BYTES: u64 = 8;
/// The format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Tensors begin at multiples of this in the file; the header is padded with spaces, as the format allows.
const ALIGN_BYTES: usize = 8;
/// Numbers converted at a time.
const CHUNK: usize = 1 << 14;
/// Bytes read at a time to verify the checksum.
const VERIFY_BYTES: usize = 1 << 18;
/// The entry of the metadata with the CRC-32C of all bytes after the header.
const CHECKSUM_FACT: &str = "crc32c";

/// CRC-32C of what is written into it; in hexadecimal as a text.
struct Checksum(u32);

impl Write for Checksum {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = crc32c::crc32c_append(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A tensor to be written.
pub struct Named<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its shape, row-major.
    pub shape: &'a [usize],
    /// Its values.
    pub values: &'a [f32],
}

/// Writes tensors in the given order, with `facts` as the file's metadata and the checksum that
/// [`TensorFile::verify`] reads, atomically. Equal input gives equal bytes.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, facts: &BTreeMap<String, String>, tensors: &[Named<'_>]) -> Result<()> {
    let mut checksum = Checksum(0);
    for tensor in tensors {
        write_values(&mut checksum, tensor.values).map_err(Error::io("write", path))?;
    }
    let mut facts = facts.clone();
    facts.insert(CHECKSUM_FACT.to_string(), checksum.to_string());
    let mut header = Map::from_iter([("__metadata__".to_string(), json!(facts))]);
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += size_of_val(tensor.values);
        let entry = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end] });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(ALIGN_BYTES), b' ');
    write_atomic(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| write_values(out, tensor.values))
    })
}

fn write_values(out: &mut dyn Write, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK * size_of::<f32>());
    for chunk in values.chunks(CHUNK) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|value| value.to_bits().to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// A safetensors file whose header was read and fits the file's size.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    header: Metadata,
    data_start: u64,
    facts: HashMap<String, String>,
}

impl TensorFile {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a file of another kind, or one that is cut off.
    pub fn open(path: &Path) -> Result<TensorFile> {
        let refused = |reason: String| Error::format(path, reason);
        if path.is_dir() {
            return Err(refused("is a folder, not a safetensors file".to_string()));
        }
        require_regular_file(path)?;
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let file_bytes = file.metadata().map_err(Error::io("read", path))?.len();
        let none = || refused("is not a safetensors file".to_string());
        if file_bytes < PREFIX_BYTES {
            return Err(none());
        }
        let mut prefix = [0; PREFIX_BYTES as usize];
        file.read_exact(&mut prefix).map_err(Error::io("read", path))?;
        let header_bytes = u64::from_le_bytes(prefix);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(none());
        }
        if header_bytes > file_bytes - PREFIX_BYTES {
            return Err(refused(truncated(file_bytes, header_bytes + PREFIX_BYTES)));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(Error::io("read", path))?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| refused(format!("is not a safetensors file ({error})")))?;
        let data_start = PREFIX_BYTES + header_bytes;
        let expected = data_start.saturating_add(header.data_len() as u64);
        if file_bytes < expected {
            return Err(refused(truncated(file_bytes, expected)));
        }
        if file_bytes > expected {
            return Err(refused(format!("is {} bytes longer than its header says", file_bytes - expected)));
        }
        let facts = header.metadata().clone().unwrap_or_default();
        Ok(TensorFile { path: path.to_path_buf(), file, header, data_start, facts })
    }

    /// Reads all tensors and compares them with the checksum in the metadata. A file without one, as other programs
    /// write it, passes.
    ///
    /// # Errors
    /// [`Error::Format`] when the tensors are not those that were written; [`Error::Io`].
    pub fn verify(&mut self) -> Result<()> {
        let Some(expected) = self.facts.get(CHECKSUM_FACT) else { return Ok(()) };
        let mut checksum = Checksum(0);
        let mut bytes = vec![0; VERIFY_BYTES];
        self.file.seek(SeekFrom::Start(self.data_start)).map_err(Error::io("read", &self.path))?;
        loop {
            match self.file.read(&mut bytes).map_err(Error::io("read", &self.path))? {
                0 => break,
                count => checksum.0 = crc32c::crc32c_append(checksum.0, &bytes[..count]),
            }
        }
        if *expected != checksum.to_string() {
            let reason = "its content is damaged (checksum): use another checkpoint, or a copy of this one";
            return Err(Error::format(&self.path, reason));
        }
        Ok(())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An entry of the file's metadata.
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.facts.get(key).map(String::as_str)
    }

    /// Bytes of all tensors.
    pub fn data_bytes(&self) -> u64 {
        self.header.data_len() as u64
    }

    /// Names of the tensors, in the order in which they lie in the file.
    pub fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// A tensor's shape; `None` when there is no such tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).map(|info| info.shape.as_slice())
    }

    /// Reads a tensor of exactly this shape into `out`. f16 and bf16 are widened.
    ///
    /// # Errors
    /// [`Error::Format`] when it is missing or has another shape or another kind of element; [`Error::Io`].
    pub fn read(&mut self, name: &str, shape: &[usize], out: &mut [f32]) -> Result<()> {
        let refused = |reason: String| Error::format(&self.path, reason);
        let info = self.header.info(name).ok_or_else(|| refused(format!("holds no tensor `{name}`")))?;
        if info.shape != shape || shape.iter().product::<usize>() != out.len() {
            return Err(refused(format!("`{name}` has shape {:?}, not {shape:?}", info.shape)));
        }
        let TensorInfo { dtype, data_offsets: (start, _), .. } = *info;
        let widen: fn(&[u8]) -> f32 = match dtype {
            Dtype::F32 => |b| f32::from_bits(u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            Dtype::F16 => |b| f16::from_le_bytes([b[0], b[1]]).to_f32(),
            Dtype::BF16 => |b| bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            other => return Err(refused(format!("`{name}` is {other:?}; f32, f16 and bf16 can be read"))),
        };
        let mut read = |file: &mut File| -> std::io::Result<()> {
            file.seek(SeekFrom::Start(self.data_start + start as u64))?;
            let size = dtype.bitsize() / 8;
            let mut bytes = vec![0; CHUNK.min(out.len()) * size];
            for chunk in out.chunks_mut(CHUNK) {
                let bytes = &mut bytes[..chunk.len() * size];
                file.read_exact(bytes)?;
                chunk.iter_mut().zip(bytes.chunks_exact(size)).for_each(|(value, b)| *value = widen(b));
            }
            Ok(())
        };
        read(&mut self.file).map_err(Error::io("read", &self.path))
    }
}

fn truncated(bytes: u64, expected: u64) -> String {
    format!("is cut off: {bytes} bytes of {expected}")
}
