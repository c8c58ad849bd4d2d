//! How a kernel wants to be launched, read from its PTX, so that it is written down once: in the kernel.

use std::collections::HashMap;

/// What a kernel's PTX says about launching it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The kernel's name.
    pub name: String,
    /// Threads a block (`.maxntid`).
    pub block: u32,
    /// The parameters, in order.
    pub parameters: Vec<Kind>,
    /// Dynamic shared memory: the module's constant `NAME_shared_bytes`, 0 without it.
    pub shared_bytes: u32,
}

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `.u64`: a pointer or a count.
    Wide,
    /// `.u32`
    Word,
    /// `.f32`
    Real,
}

/// What a module's PTX says: its kernels, and the numbers that it states for the host (`HOST_CONSTANT`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contracts {
    /// By name.
    pub kernels: HashMap<String, Contract>,
    /// By name.
    pub constants: HashMap<String, u32>,
}

impl Contracts {
    /// Reads them from a PTX.
    ///
    /// # Errors
    /// What is missing, in words: a kernel without a block size, or with a parameter of another kind.
    pub fn parse(ptx: &str) -> Result<Contracts, String> {
        let mut contracts = Contracts::default();
        let mut lines = ptx.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if let Some((name, value)) = constant(line) {
                contracts.constants.insert(name.to_string(), value);
            }
            let Some((_, after)) = line.split_once(".entry ") else { continue };
            let name = after.split('(').next().unwrap_or_default().trim().to_string();
            let mut contract = Contract { name, block: 0, parameters: Vec::new(), shared_bytes: 0 };
            for line in lines.by_ref().take_while(|line| !line.starts_with('{')) {
                if let Some(parameter) = line.strip_prefix(".param ") {
                    contract.parameters.push(kind(parameter, &contract.name)?);
                } else if let Some(block) = line.strip_prefix(".maxntid ") {
                    contract.block = product(block).ok_or_else(|| format!("{}: `{line}`", contract.name))?;
                }
            }
            if contract.block == 0 {
                return Err(format!("{}: no .maxntid", contract.name));
            }
            contracts.kernels.insert(contract.name.clone(), contract);
        }
        for contract in contracts.kernels.values_mut() {
            let constant = contracts.constants.get(&format!("{}_shared_bytes", contract.name));
            contract.shared_bytes = constant.copied().unwrap_or(0);
        }
        Ok(contracts)
    }
}

/// `.const .align 4 .u32 matmul_tile = 128;`, with or without `.visible` before it.
fn constant(line: &str) -> Option<(&str, u32)> {
    let line = line.strip_prefix(".visible ").unwrap_or(line);
    let declaration = line.strip_prefix(".const ")?.strip_suffix(';')?;
    let (head, value) = declaration.split_once(" = ").unwrap_or((declaration, "0"));
    let mut words = head.rsplit(' ');
    let (name, kind) = (words.next()?, words.next()?);
    (kind == ".u32").then(|| value.parse().ok()).flatten().map(|value| (name, value))
}

/// `.u64 .ptr .align 1 name,` or `.u32 name`
fn kind(parameter: &str, kernel: &str) -> Result<Kind, String> {
    match parameter.split_whitespace().next() {
        Some(".u64") => Ok(Kind::Wide),
        Some(".u32") => Ok(Kind::Word),
        Some(".f32") => Ok(Kind::Real),
        _ => Err(format!("{kernel}: a parameter that the host does not know: `{parameter}`")),
    }
}

/// `256, 1, 1`
fn product(sides: &str) -> Option<u32> {
    sides.split(',').try_fold(1u32, |product, side| product.checked_mul(side.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTX: &str = "
.version 7.8
.visible .const .align 4 .u32 scale_rows = 64;
.const .align 4 .u32 scale_shared_bytes = 4096;
.visible .entry scale(
	.param .u64 .ptr .align 1 scale_param_0,
	.param .u32 scale_param_1,
	.param .f32 scale_param_2
)
.maxntid 256
{
	ret;
}
";

    #[test]
    fn a_kernel_says_how_it_wants_to_be_launched() {
        let contracts = Contracts::parse(PTX).unwrap();
        let expected = Contract {
            name: "scale".to_string(),
            block: 256,
            parameters: vec![Kind::Wide, Kind::Word, Kind::Real],
            shared_bytes: 4096,
        };
        assert_eq!(contracts.kernels["scale"], expected);
        assert_eq!(contracts.constants["scale_rows"], 64);
    }

    #[test]
    fn what_cannot_be_launched_is_refused() {
        let without = PTX.replace(".maxntid 256", "");
        assert_eq!(Contracts::parse(&without), Err("scale: no .maxntid".to_string()));
        let structure = PTX.replace(".u32 scale_param_1", ".align 8 .b8 scale_param_1[40]");
        assert!(
            Contracts::parse(&structure)
                .unwrap_err()
                .starts_with("scale: a parameter that the host does not know")
        );
    }
}
