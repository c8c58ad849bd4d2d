//! Calls that cannot be inlined: recursion, and calls through a pointer. Their functions are lowered once, behind the entry.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Lowered, Lowerer, Symbol, file};
use crate::checks::{Check, DeviceError};
use crate::isa::Work;
use crate::machine::calls::{Routine, Slot};
use crate::machine::context::{Context, Flow};
use crate::machine::registers::{File, Source, lanes};
use crate::model::counters::Class;
use crate::module::function_address;
use crate::program::{Action, Gather};
use crate::ptx::ast::{Function, Instruction, Operand, Space, Statement, Variable};

/// A call or return whose action is made when all routines are known.
pub(super) struct Link {
    step: usize,
    kind: LinkKind,
}

enum LinkKind {
    /// Of a routine by its index.
    Call(usize, Passed),
    /// Of one of the routines, by the address in a register.
    Pointer(Source, Vec<(u64, usize)>, Passed),
    /// From a routine.
    Return(usize),
}

/// Where a call's arguments lie and its results go.
struct Passed {
    arguments: Vec<Slot>,
    results: Arc<[Slot]>,
}

/// Whether a `mov` of the statements takes the address of a name.
fn mentions(statements: &[Statement], name: &str) -> bool {
    statements.iter().any(|statement| match statement {
        Statement::Block(inner) => mentions(inner, name),
        Statement::Instruction(instruction) => {
            instruction.opcode == "mov"
                && instruction
                    .operands
                    .iter()
                    .any(|operand| matches!(operand, Operand::Name(other) if other == name))
        }
        _ => false,
    })
}

impl Lowerer<'_> {
    /// The routine of a function; it is lowered later.
    fn routine(&mut self, name: &str) -> usize {
        let known = self.routines.iter().position(|routine| routine.name == *name);
        known.unwrap_or_else(|| {
            self.routines.push(Routine {
                name: name.to_string(),
                start: 0,
                predicates: 0..0,
                narrow: 0..0,
                wide: 0..0,
                local: 0..0,
                parameters: Vec::new(),
                results: Vec::new(),
                addressed: false,
            });
            self.routines.len() - 1
        })
    }

    /// What is passed for a formal parameter.
    fn passed(&mut self, formal: &Variable, actual: &Operand) -> Result<Slot, String> {
        match self.argument(formal, actual)? {
            Symbol::Register { file, slot, .. } => Ok(Slot::Register(file, slot)),
            Symbol::Variable(_, at) => {
                let bytes = formal.bytes.unwrap_or(0);
                if self.local_sizes.get(&at) != Some(&bytes) {
                    return Err(format!("what is passed for `{}` has another size", formal.name));
                }
                Ok(Slot::Local(at as usize..(at + bytes) as usize))
            }
        }
    }

    fn pass(
        &mut self,
        function: &Function,
        results: &[Operand],
        arguments: &[Operand],
    ) -> Result<Passed, String> {
        if (function.params.len(), function.returns.len()) != (arguments.len(), results.len()) {
            return Err(format!(
                "a call of `{}` has the wrong number of arguments or results",
                function.name
            ));
        }
        let mut slots = |formals: &[Variable], actuals: &[Operand]| {
            let pairs = formals.iter().zip(actuals);
            pairs.map(|(formal, actual)| self.passed(formal, actual)).collect::<Result<Vec<Slot>, String>>()
        };
        Ok(Passed {
            arguments: slots(&function.params, arguments)?,
            results: slots(&function.returns, results)?.into(),
        })
    }

    fn emit_link(&mut self, name: String, kind: LinkKind) {
        self.links.push(Link { step: self.steps.len(), kind });
        self.emit(name, Work::of(Class::Control), Gather::None, Box::new(|_| Flow::Next));
    }

    /// A call of a function that is active already.
    pub(super) fn call_routine(
        &mut self,
        instruction: &Instruction,
        function: &Function,
        results: &[Operand],
        arguments: &[Operand],
    ) -> Lowered {
        let passed = self.pass(function, results, arguments)?;
        let routine = self.routine(&function.name);
        self.emit_link(instruction.full_name(), LinkKind::Call(routine, passed));
        Ok(())
    }

    /// A call through the address in a register: of any function whose address the module takes and that fits.
    pub(super) fn call_pointer(
        &mut self,
        instruction: &Instruction,
        register: &str,
        results: &[Operand],
        arguments: &[Operand],
    ) -> Lowered {
        let source = self.source::<u64>(&Operand::Name(register.to_string()), None)?;
        let module = self.module;
        let taken = |name: &str| {
            let variables = module.variables.iter();
            variables.flat_map(|variable| &variable.relocations).any(|relocation| relocation.symbol == name)
                || module
                    .functions
                    .iter()
                    .any(|function| mentions(function.body.as_deref().unwrap_or(&[]), name))
        };
        let mut targets = Vec::new();
        let mut passed = None;
        for function in
            module.functions.iter().filter(|function| !function.is_entry && function.body.is_some())
        {
            if !taken(&function.name) {
                continue;
            }
            let Ok(slots) = self.pass(function, results, arguments) else { continue };
            let address = function_address(module, &function.name).unwrap_or(0);
            targets.push((address, self.routine(&function.name)));
            passed = Some(slots);
        }
        let passed = passed.ok_or("no function fits a call through a pointer")?;
        self.emit_link(instruction.full_name(), LinkKind::Pointer(source, targets, passed));
        Ok(())
    }

    /// Lowers the bodies of routines, those among them that only routines call.
    pub(super) fn lower_routines(&mut self) -> Lowered {
        let mut index = 0;
        while index < self.routines.len() {
            self.lower_routine(index)?;
            index += 1;
        }
        Ok(())
    }

    fn lower_routine(&mut self, index: usize) -> Lowered {
        let name = self.routines[index].name.clone();
        let module = self.module;
        let function = module.functions.iter().filter(|function| function.name == name && !function.is_entry);
        let function = function.max_by_key(|function| function.body.is_some());
        let body = function.and_then(|function| Some((function, function.body.as_deref()?)));
        let (function, body) = body.ok_or_else(|| format!("function `{name}` has no body"))?;
        let counts = |lowerer: &Self| {
            let layout = &lowerer.layout;
            (layout.predicates as usize, layout.narrow as usize, layout.wide as usize, lowerer.local_bytes)
        };
        let before = counts(self);
        let mut scope = HashMap::new();
        let mut slots = [Vec::new(), Vec::new()];
        for (slots, formals) in slots.iter_mut().zip([&function.params, &function.returns]) {
            for formal in formals {
                let symbol = self.formal(formal)?;
                slots.push(match symbol {
                    Symbol::Register { file, slot, .. } => Slot::Register(file, slot),
                    Symbol::Variable(_, at) => {
                        Slot::Local(at as usize..(at + formal.bytes.unwrap_or(0)) as usize)
                    }
                });
                scope.insert(formal.name.clone(), symbol);
            }
        }
        self.guard = None;
        self.addressed = false;
        self.instances += 1;
        self.prefix = format!("{}/", self.instances);
        let end = format!("{}return", self.prefix);
        self.returns = Some(end.clone());
        self.scopes = vec![scope];
        self.calls = vec![name];
        let start = self.steps.len() as u32;
        self.statements(body)?;
        self.labels.insert(end, self.steps.len() as u32);
        self.guard = None;
        // The `ret` that jumps here has been counted.
        self.hidden = true;
        self.emit_link("ret".to_string(), LinkKind::Return(index));
        self.hidden = false;
        let after = counts(self);
        let [parameters, results] = slots;
        let routine = &mut self.routines[index];
        routine.start = start;
        routine.predicates = before.0..after.0;
        routine.narrow = before.1..after.1;
        routine.wide = before.2..after.2;
        routine.local = before.3 as usize..after.3 as usize;
        (routine.parameters, routine.results) = (parameters, results);
        routine.addressed = self.addressed;
        Ok(())
    }

    /// The place of a routine's own parameter.
    fn formal(&mut self, formal: &Variable) -> Result<Symbol, String> {
        if formal.space == Space::Register {
            let file: File = file(formal.ty)?;
            return Ok(Symbol::Register { file, slot: self.fresh(file), bits: formal.ty.bits() });
        }
        Ok(Symbol::Variable(Space::Local, self.local(formal.bytes.unwrap_or(0), formal.align)))
    }

    /// Makes calls and returns, now that all routines are known.
    pub(super) fn link_routines(&mut self) {
        let routines: Arc<[Routine]> = std::mem::take(&mut self.routines).into();
        for link in std::mem::take(&mut self.links) {
            let routines = routines.clone();
            self.steps[link.step].action = match link.kind {
                LinkKind::Call(index, passed) => enter(routines, passed, move |_, _| Some(index)),
                LinkKind::Pointer(source, targets, passed) => {
                    enter(routines, passed, move |context, lane| {
                        let address = context.registers.wide[source.slot as usize][lane];
                        targets.iter().find(|target| target.0 == address).map(|target| target.1)
                    })
                }
                LinkKind::Return(index) => Box::new(move |context: &mut Context<'_>| {
                    let mut parts = Vec::new();
                    for lane in lanes(context.mask) {
                        let back = context.leave(lane, &routines[index]);
                        add(&mut parts, lane, back.unwrap_or(context.pc));
                    }
                    go(parts)
                }),
            };
        }
    }
}

/// Adds a lane to those that go to a step.
fn add(parts: &mut Vec<(u32, u32)>, lane: usize, target: u32) {
    match parts.iter_mut().find(|part| part.1 == target) {
        Some(part) => part.0 |= 1 << lane,
        None => parts.push((1 << lane, target)),
    }
}

fn go(parts: Vec<(u32, u32)>) -> Flow {
    match parts.as_slice() {
        [(mask, target)] => Flow::Jump(*mask, *target),
        _ => Flow::Scatter(parts),
    }
}

/// The action of a call; `which` gives a lane's routine.
fn enter(
    routines: Arc<[Routine]>,
    passed: Passed,
    which: impl Fn(&Context<'_>, usize) -> Option<usize> + Send + Sync + 'static,
) -> Action {
    Box::new(move |context: &mut Context<'_>| {
        let mut parts = Vec::new();
        for lane in lanes(context.mask) {
            let Some(index) = which(context, lane) else {
                let what = "calls through a pointer that is not the address of a function of this kind";
                let error = DeviceError::IllegalInstruction;
                return Flow::Fault(context.finding(lane, Check::Memory, error, what.to_string()));
            };
            let routine = &routines[index];
            if let Err(fault) = context.enter(lane, (index, routine), &passed.arguments, &passed.results) {
                return Flow::Fault(fault);
            }
            add(&mut parts, lane, routine.start);
        }
        go(parts)
    })
}
