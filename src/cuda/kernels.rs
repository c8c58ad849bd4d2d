//! The kernels that the program carries: PTX made by build.rs from `kernels/*.cu`, loaded a family at a time, when the
//! first kernel of the family is launched.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use super::contract::Contracts;
use super::driver::{Driver, Kernel};
use super::memory::Element;
use crate::error::{Error, Result};

/// (family, set, PTX); sets are named by element and oldest architecture.
const EMBEDDED: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Names a folder with PTX to use in place of the embedded one, for work on kernels: a change is tried without building the
/// program anew (`scripts/kernel-mutants.py` does so).
const OTHER_PTX: &str = "DIT_PTX_DIR";

/// The oldest compute capability that has kernels.
pub const OLDEST_CAPABILITY: u32 = 75;
/// The oldest compute capability with bf16 kernels.
pub const OLDEST_BF16_CAPABILITY: u32 = 80;

/// One family in one set, loaded.
struct Loaded {
    kernels: HashMap<String, Rc<Kernel>>,
    constants: HashMap<String, u32>,
}

/// All kernels of a device, loaded as they are needed.
pub struct Kernels {
    capability: u32,
    loaded: RefCell<HashMap<(String, Element), Rc<Loaded>>>,
}

impl Kernels {
    /// The kernels for a device of this compute capability.
    pub fn new(capability: u32) -> Kernels {
        Kernels { capability, loaded: RefCell::default() }
    }

    /// The kernel of this name for activations of `element`. Its family is the beginning of its name.
    ///
    /// # Errors
    /// [`Error::Device`] when there is none, or the device refuses it.
    pub fn get(&self, driver: &Driver, element: Element, name: &str) -> Result<Rc<Kernel>> {
        let family = self.family(driver, element, family_of(name))?;
        family.kernels.get(name).cloned().ok_or_else(|| Error::device(format!("there is no kernel {name}")))
    }

    /// A number that a family states for the host.
    ///
    /// # Errors
    /// [`Error::Device`] when it states none of this name.
    pub fn constant(&self, driver: &Driver, element: Element, name: &str) -> Result<u32> {
        let family = self.family(driver, element, family_of(name))?;
        family
            .constants
            .get(name)
            .copied()
            .ok_or_else(|| Error::device(format!("there is no constant {name}")))
    }

    fn family(&self, driver: &Driver, element: Element, family: &str) -> Result<Rc<Loaded>> {
        let key = (family.to_string(), element);
        if let Some(loaded) = self.loaded.borrow().get(&key) {
            return Ok(loaded.clone());
        }
        let loaded = Rc::new(self.load(driver, element, family)?);
        self.loaded.borrow_mut().insert(key, loaded.clone());
        Ok(loaded)
    }

    fn load(&self, driver: &Driver, element: Element, family: &str) -> Result<Loaded> {
        let set = match element {
            Element::Bf16 => "bf16_80",
            Element::F32 if self.capability >= OLDEST_BF16_CAPABILITY => "f32_80",
            Element::F32 => "f32_75",
        };
        let name = format!("{family}.{set}");
        let ptx = match std::env::var_os(OTHER_PTX) {
            Some(folder) => {
                let path = PathBuf::from(folder).join(format!("{name}.ptx"));
                std::fs::read_to_string(&path).map_err(Error::io("read", &path))?
            }
            None => {
                let found = EMBEDDED.iter().find(|(name, of, _)| *name == family && *of == set);
                found.ok_or_else(|| Error::device(format!("there are no kernels {name}")))?.2.to_string()
            }
        };
        let module = driver.load(&ptx, &name)?;
        let contracts =
            Contracts::parse(&ptx).map_err(|problem| Error::device(format!("{name}: {problem}")))?;
        let mut kernels = HashMap::new();
        for (name, contract) in contracts.kernels {
            kernels.insert(name, Rc::new(driver.kernel(&module, contract)?));
        }
        Ok(Loaded { kernels, constants: contracts.constants })
    }
}

/// The embedded PTX: (family, set, text).
pub fn embedded() -> &'static [(&'static str, &'static str, &'static str)] {
    EMBEDDED
}

fn family_of(name: &str) -> &str {
    name.split('_').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_can_be_launched_by_its_contract_and_spills_nothing() {
        for (family, set, ptx) in EMBEDDED {
            let contracts =
                Contracts::parse(ptx).unwrap_or_else(|problem| panic!("{family}.{set}: {problem}"));
            assert!(!contracts.kernels.is_empty(), "{family}.{set}");
            for name in contracts.kernels.keys() {
                assert_eq!(family_of(name), *family, "{name} is not found by its name");
                let lines: Vec<_> = ptx
                    .lines()
                    .filter(|line| line.contains(&format!(" {name}: ")) && line.starts_with("// ptxas"))
                    .collect();
                assert!(!lines.is_empty(), "{name}: no resources");
                assert!(lines.iter().all(|line| line.ends_with(" 0 bytes spilled")), "{lines:?}");
            }
        }
    }
}
