//! The checks that a launch runs under, and what they find.

use std::fmt;

/// One check; each can be switched off by name (`SOFTCUDA_CHECKS=-race`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Check {
    /// Accesses outside an allocation, to freed memory, or not aligned.
    Memory,
    /// Reads of bytes that nothing wrote.
    Init,
    /// Conflicting accesses of two threads that nothing orders.
    Race,
    /// Divergent barriers, lanes missing in warp-wide instructions.
    Sync,
    /// Data of `cp.async` used before it is there.
    Async,
    /// Launch limits.
    Launch,
    /// Writes to what the same launch reads through `ld.global.nc`.
    ReadOnly,
    /// Conflicting accesses of two streams that nothing orders, memory used after its asynchronous free.
    Stream,
    /// Host memory changed or read while a copy is under way.
    Host,
    /// Threads that wait for what cannot come.
    Deadlock,
    /// What a kernel itself stops for: `trap`, a failed assertion. Always on.
    Trap,
}

impl Check {
    /// All of them.
    pub const ALL: [Check; 11] = [
        Check::Memory,
        Check::Init,
        Check::Race,
        Check::Sync,
        Check::Async,
        Check::Launch,
        Check::ReadOnly,
        Check::Stream,
        Check::Host,
        Check::Deadlock,
        Check::Trap,
    ];

    /// Its name in `SOFTCUDA_CHECKS` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Check::Memory => "memory",
            Check::Init => "init",
            Check::Race => "race",
            Check::Sync => "sync",
            Check::Async => "async",
            Check::Launch => "launch",
            Check::ReadOnly => "readonly",
            Check::Stream => "stream",
            Check::Host => "host",
            Check::Deadlock => "deadlock",
            Check::Trap => "trap",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks(u32);

/// A word in a list of checks that is no check's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no check is called `{name}`; there are all, none, {known} (with `-` before a name to switch it off)"
)]
pub struct UnknownCheck {
    /// The word.
    pub name: String,
    /// The names that there are.
    pub known: String,
}

impl Checks {
    /// Every check.
    pub const fn all() -> Checks {
        Checks((1 << Check::ALL.len()) - 1)
    }

    /// No check but those whose violation a device could not survive either: bounds, and deadlocks.
    pub const fn none() -> Checks {
        Checks(0)
    }

    /// Whether it is on.
    pub const fn has(self, check: Check) -> bool {
        self.0 >> check as u32 & 1 != 0
    }

    /// With it on.
    #[must_use]
    pub const fn with(self, check: Check) -> Checks {
        Checks(self.0 | 1 << check as u32)
    }

    /// With it off.
    #[must_use]
    pub const fn without(self, check: Check) -> Checks {
        Checks(self.0 & !(1 << check as u32))
    }

    /// From a list like `all,-race` or `memory,init`, read from left to right. A list that starts with `-` starts from all
    /// checks, any other from none.
    ///
    /// # Errors
    /// [`UnknownCheck`], which lists the names.
    ///
    /// ```
    /// use softcuda::checks::{Check, Checks};
    /// let checks = Checks::parse("-race,-init")?;
    /// assert!(checks.has(Check::Memory) && !checks.has(Check::Race));
    /// # Ok::<(), softcuda::checks::UnknownCheck>(())
    /// ```
    pub fn parse(list: &str) -> Result<Checks, UnknownCheck> {
        let mut checks = if list.trim_start().starts_with('-') { Checks::all() } else { Checks::none() };
        for word in list.split([',', ' ']).filter(|word| !word.is_empty()) {
            let (off, name) = word.strip_prefix('-').map_or((false, word), |name| (true, name));
            let chosen = match name {
                "all" => Checks::all(),
                "none" => Checks::none(),
                _ => Checks::none().with(
                    Check::ALL.into_iter().find(|check| check.name() == name).ok_or_else(|| {
                        let known: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
                        UnknownCheck { name: name.to_string(), known: known.join(", ") }
                    })?,
                ),
            };
            checks = match (off, name) {
                (false, "none") => Checks::none(),
                (false, _) => Checks(checks.0 | chosen.0),
                (true, _) => Checks(checks.0 & !chosen.0),
            };
        }
        Ok(checks)
    }
}

/// The CUDA error that a real device would give for a finding; `None` of these where it would go on with wrong data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceError {
    /// `CUDA_ERROR_ILLEGAL_ADDRESS`
    IllegalAddress,
    /// `CUDA_ERROR_MISALIGNED_ADDRESS`
    MisalignedAddress,
    /// `CUDA_ERROR_ILLEGAL_INSTRUCTION`
    IllegalInstruction,
    /// `CUDA_ERROR_INVALID_ADDRESS_SPACE`
    InvalidAddressSpace,
    /// `CUDA_ERROR_ASSERT`
    Assert,
    /// `CUDA_ERROR_LAUNCH_TIMEOUT`: hangs.
    LaunchTimeout,
    /// `CUDA_ERROR_LAUNCH_FAILED`: traps, and what a device does not see but a check does.
    LaunchFailed,
}

/// What a check found: everything that a person needs to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check that found it.
    pub check: Check,
    /// The sticky error that follows.
    pub error: DeviceError,
    /// What is wrong, in one sentence.
    pub what: String,
    /// Name of the kernel; empty where no kernel is involved.
    pub kernel: String,
    /// `reduce.cu:31`, or the line of the PTX where there is no line information; empty where there is none.
    pub place: String,
    /// The other place of a conflict.
    pub other_place: String,
    /// Block, where a thread is involved.
    pub block: Option<[u32; 3]>,
    /// Thread in its block.
    pub thread: Option<[u32; 3]>,
    /// Address, where memory is involved.
    pub address: Option<u64>,
    /// What lies at or next to the address: `4 bytes behind an allocation of 256 bytes`.
    pub allocation: String,
}

impl Finding {
    /// With an address, and what lies there.
    pub(crate) fn at(mut self: Box<Self>, address: u64, allocation: String) -> Box<Self> {
        self.address = Some(address);
        self.allocation = allocation;
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} check: {}", self.check, self.what)?;
        if !self.allocation.is_empty() {
            write!(f, " ({})", self.allocation)?;
        }
        if !self.kernel.is_empty() {
            write!(f, ", in {}", self.kernel)?;
        }
        if !self.place.is_empty() {
            write!(f, " at {}", self.place)?;
        }
        if !self.other_place.is_empty() {
            write!(f, " and {}", self.other_place)?;
        }
        if let (Some([x, y, z]), Some([i, j, k])) = (self.block, self.thread) {
            write!(f, ", block ({x}, {y}, {z}), thread ({i}, {j}, {k})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_from_left_to_right() {
        assert_eq!(Checks::parse("all"), Ok(Checks::all()));
        assert_eq!(Checks::parse(""), Ok(Checks::none()));
        assert_eq!(Checks::parse("all,none,init"), Ok(Checks::none().with(Check::Init)));
        assert_eq!(Checks::parse("-race"), Ok(Checks::all().without(Check::Race)));
        assert_eq!(Checks::parse("memory race,-memory"), Ok(Checks::none().with(Check::Race)));
        assert!(
            Checks::parse("all,-rcae")
                .unwrap_err()
                .to_string()
                .contains("`rcae`; there are all, none, memory, init")
        );
    }
}
