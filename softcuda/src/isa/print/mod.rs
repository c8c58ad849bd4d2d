//! Functions that the driver provides: `vprintf`, `__assertfail`; and that it provides on devices only: `malloc`, `free`.

mod format;
mod number;

use crate::checks::{Check, DeviceError, Finding};
use crate::lower::{Lowered, Lowerer, Symbol};
use crate::machine::access::How;
use crate::machine::context::{Context, Flow};
use crate::machine::registers::lanes;
use crate::model::counters::Class;
use crate::program::Action;
use crate::ptx::ast::{Instruction, Operand, Space};

/// A call of one of the functions; `None` for any other.
pub fn call(
    lowerer: &mut Lowerer<'_>,
    instruction: &Instruction,
    name: &str,
    results: &[Operand],
    arguments: &[Operand],
) -> Option<Lowered> {
    match name {
        "vprintf" => Some(print(lowerer, instruction, results, arguments)),
        "__assertfail" => Some(assertion(lowerer, instruction, arguments)),
        "malloc" | "free" => {
            Some(Err(format!("`{name}` in device code is not supported: allocate on the host")))
        }
        _ => None,
    }
}

/// Where an argument or result lies in the thread's local memory.
fn parameter(lowerer: &Lowerer<'_>, operand: &Operand) -> Result<u64, String> {
    let symbol = match operand {
        Operand::Name(name) => lowerer.symbol(name),
        _ => None,
    };
    match symbol {
        Some(Symbol::Variable(Space::Local, address)) => Ok(address),
        _ => Err("an argument of this form is not supported".to_string()),
    }
}

type Read<T> = Result<T, Box<Finding>>;

/// One lane's view of memory. What it reads does not count as traffic: a device writes arguments to a buffer, and the host
/// prints.
struct Reader<'c, 'a> {
    context: &'c mut Context<'a>,
    lane: usize,
    /// Where the next argument lies.
    next: u64,
}

impl Reader<'_, '_> {
    fn load(&mut self, space: Space, address: u64, bytes: u32) -> Read<u64> {
        let whole = std::mem::replace(&mut self.context.mask, 1 << self.lane);
        let count = *self.context.count();
        let mut value = [[0; 32]];
        let result = self.context.load(space, &[address; 32], bytes, How::default(), &mut value);
        *self.context.count() = count;
        self.context.mask = whole;
        result.map(|()| value[0][self.lane])
    }

    fn text(&mut self, address: u64) -> Read<Vec<u8>> {
        format::Arguments::string(self, address, usize::MAX)
    }
}

impl format::Arguments for Reader<'_, '_> {
    type Failure = Box<Finding>;

    fn value(&mut self, bytes: u32) -> Read<u64> {
        let at = self.next.checked_next_multiple_of(u64::from(bytes)).unwrap_or(self.next);
        self.next = at.wrapping_add(u64::from(bytes));
        self.load(Space::Generic, at, bytes)
    }

    fn string(&mut self, address: u64, most: usize) -> Read<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < most {
            match self.load(Space::Generic, address.wrapping_add(text.len() as u64), 1)? as u8 {
                0 => break,
                byte => text.push(byte),
            }
        }
        Ok(text)
    }
}

/// `call (result), vprintf, (format, arguments)`
fn print(
    lowerer: &mut Lowerer<'_>,
    instruction: &Instruction,
    results: &[Operand],
    arguments: &[Operand],
) -> Lowered {
    let [format, values] = arguments else {
        return Err("vprintf needs a format and a list of arguments".to_string());
    };
    let (format, values) = (parameter(lowerer, format)?, parameter(lowerer, values)?);
    let result = results.first().map(|result| parameter(lowerer, result)).transpose()?;
    let action: Action = Box::new(move |context: &mut Context<'_>| {
        let mut counts = [0; 32];
        for lane in lanes(context.mask) {
            match print_lane(context, lane, format, values) {
                Ok(count) => counts[lane] = u64::from(count),
                Err(fault) => return Flow::Fault(fault),
            }
        }
        if let Some(result) = result
            && let Err(fault) = context.store(Space::Local, &[result; 32], 4, How::default(), &[counts])
        {
            return Flow::Fault(fault);
        }
        Flow::Next
    });
    lowerer.emit_plain(instruction, Class::Control, action);
    Ok(())
}

/// What one thread prints; gives the number of its arguments, or -1 for no format.
fn print_lane(context: &mut Context<'_>, lane: usize, format: u64, values: u64) -> Read<u32> {
    let launch = context.launch;
    let mut reader = Reader { context, lane, next: 0 };
    let format = reader.load(Space::Local, format, 8)?;
    reader.next = reader.load(Space::Local, values, 8)?;
    if format == 0 {
        return Ok(u32::MAX);
    }
    let format = reader.text(format)?;
    let (text, count) = format::format(&format, &mut reader)?;
    launch.printed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(text);
    Ok(count)
}

/// `call __assertfail, (message, file, line, function, bytes of a character)`: ends the launch with a text like the driver's.
fn assertion(lowerer: &mut Lowerer<'_>, instruction: &Instruction, arguments: &[Operand]) -> Lowered {
    let [message, file, line, function, _] = arguments else {
        return Err("__assertfail needs five arguments".to_string());
    };
    let texts = [parameter(lowerer, file)?, parameter(lowerer, function)?, parameter(lowerer, message)?];
    let line = parameter(lowerer, line)?;
    let action: Action = Box::new(move |context: &mut Context<'_>| {
        let lane = context.mask.trailing_zeros() as usize & 31;
        match assertion_text(context, lane, texts, line) {
            Ok(what) => Flow::Fault(context.finding(lane, Check::Trap, DeviceError::Assert, what)),
            Err(fault) => Flow::Fault(fault),
        }
    });
    lowerer.emit_plain(instruction, Class::Control, action);
    Ok(())
}

fn assertion_text(context: &mut Context<'_>, lane: usize, texts: [u64; 3], line: u64) -> Read<String> {
    let mut reader = Reader { context, lane, next: 0 };
    let mut parts = [const { String::new() }; 3];
    for (part, address) in parts.iter_mut().zip(texts) {
        let address = reader.load(Space::Local, address, 8)?;
        *part = String::from_utf8_lossy(&reader.text(address)?).into_owned();
    }
    let line = reader.load(Space::Local, line, 4)?;
    let [file, function, message] = parts;
    let [x, y, z] = context.block.at;
    let [i, j, k] = context.thread(lane);
    Ok(format!(
        "{file}:{line}: {function}: block: [{x},{y},{z}], thread: [{i},{j},{k}] Assertion `{message}` failed."
    ))
}
