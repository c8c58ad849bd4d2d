//! What is told the user: findings, `printf`, the profile.

use std::io::Write;

use super::settings::Settings;
use crate::checks::{Check, DeviceError, Finding};
use crate::model::profile::LaunchProfile;

/// Findings that are kept, for `softcuda_last_findings`.
const KEPT: usize = 256;

/// Writes a line to standard error.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "softcuda: {}", text.replace('\n', " "));
}

/// A finding that no thread of a kernel is to blame for; a real device goes on with wrong data.
pub fn finding(check: Check, what: String, address: Option<u64>, allocation: String) -> Finding {
    Finding {
        check,
        error: DeviceError::LaunchFailed,
        what,
        kernel: String::new(),
        place: String::new(),
        other_place: String::new(),
        block: None,
        thread: None,
        address,
        allocation,
    }
}

/// What has been found and printed.
#[derive(Debug, Default)]
pub struct Report {
    findings: Vec<String>,
    printed: Vec<u8>,
}

impl Report {
    /// A finding: one line, at once.
    pub fn find(&mut self, finding: &Finding) {
        let text = finding.to_string();
        line(&text);
        if self.findings.len() < KEPT {
            self.findings.push(text);
        }
    }

    /// All findings, a line each.
    pub fn findings(&self) -> String {
        self.findings.join("\n")
    }

    /// What a kernel printed; shown at the next synchronisation.
    pub fn print(&mut self, bytes: &[u8]) {
        self.printed.extend_from_slice(bytes);
    }

    /// Shows what kernels have printed.
    pub fn flush(&mut self) {
        if !self.printed.is_empty() {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(&self.printed).and_then(|()| out.flush());
            self.printed.clear();
        }
    }
}

/// Adds a launch to the file of profiles.
pub fn profile(settings: &mut Settings, profile: &LaunchProfile) {
    if let Some(file) = &mut settings.profile
        && let Err(error) = file.write_all((profile.to_json_line() + "\n").as_bytes())
    {
        line(&format!("SOFTCUDA_PROFILE: cannot write: {error}"));
        settings.profile = None;
    }
}
