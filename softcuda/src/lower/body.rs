//! Bodies: declarations, labels, calls, and the way of each instruction to its family.

use std::collections::HashMap;

use super::{Jump, JumpKind, Lowered, Lowerer, Symbol, file};
use crate::isa;
use crate::machine::context::{Context, Flow};
use crate::machine::registers::{File, Source, lanes};
use crate::model::counters::Class;
use crate::program::Action;
use crate::ptx::ast::{Function, Instruction, Operand, Space, Statement, Variable};

/// Calls inside calls, at most; a thread's stack is finite too.
const MAX_CALLS: usize = 64;
/// Steps of a kernel, at most: inlining could make a text of any size into more.
const MAX_STEPS: usize = 1 << 22;

impl Lowerer<'_> {
    /// The body of the entry, and the exit behind it.
    pub(super) fn function(&mut self, function: &Function) -> Lowered {
        let body = function.body.as_deref().ok_or("the entry has no body")?;
        self.statements(body)?;
        // A body need not end in `ret`.
        self.guard = None;
        self.emit_exit("exit".to_string());
        self.lower_routines()?;
        self.link_routines();
        self.link()
    }

    /// Ends threads.
    fn emit_exit(&mut self, name: String) {
        let plain = self.guard.is_none();
        let action = Box::new(|context: &mut Context<'_>| Flow::Exit(context.mask));
        self.emit(name, isa::Work::of(Class::Control), crate::program::Gather::None, action);
        if let Some(step) = self.steps.last_mut() {
            step.is_exit = plain;
        }
    }

    pub(super) fn statements(&mut self, statements: &[Statement]) -> Lowered {
        for statement in statements {
            match statement {
                Statement::Label(name, _) => {
                    let at = self.steps.len() as u32;
                    self.labels.insert(format!("{}{name}", self.prefix), at);
                }
                Statement::Registers(declared) => {
                    for register in declared {
                        self.declare(register)?;
                    }
                }
                Statement::Variable(variable) => {
                    self.position = variable.position;
                    self.variable(variable)?;
                }
                Statement::Targets(name, targets, _) => {
                    let targets = targets.iter().map(|target| format!("{}{target}", self.prefix)).collect();
                    self.tables.insert(format!("{}{name}", self.prefix), targets);
                }
                Statement::Prototype(..) => {}
                Statement::Block(inner) => {
                    self.scopes.push(HashMap::new());
                    let result = self.statements(inner);
                    self.scopes.pop();
                    result?;
                }
                Statement::Instruction(instruction) => self.instruction(instruction)?,
            }
        }
        Ok(())
    }

    fn bind(&mut self, name: String, symbol: Symbol) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, symbol);
        }
    }

    fn declare(&mut self, register: &crate::ptx::ast::RegisterDeclaration) -> Lowered {
        let (file, bits) = (file(register.ty)?, register.ty.bits());
        if register.vector != 1 {
            return Err(format!("vector register `{}` is not supported", register.name));
        }
        match register.count {
            None => {
                let slot = self.fresh(file);
                self.bind(register.name.clone(), Symbol::Register { file, slot, bits });
            }
            Some(count) => {
                if count > 1 << 20 {
                    return Err(format!("{count} registers `{}` are too many", register.name));
                }
                for index in 0..count {
                    let slot = self.fresh(file);
                    self.bind(format!("{}{index}", register.name), Symbol::Register { file, slot, bits });
                }
            }
        }
        Ok(())
    }

    fn variable(&mut self, variable: &Variable) -> Lowered {
        let bytes = variable.bytes.unwrap_or(0);
        let (space, address) = match variable.space {
            Space::Shared => {
                let place = self.shared.get(&(variable.position.ptx_line, variable.name.clone()));
                (Space::Shared, place.copied().ok_or("a shared variable has no place")?)
            }
            // What is passed to a call and comes back from it lies in the thread's own memory.
            Space::Local | Space::Param => (Space::Local, self.local(bytes, variable.align)),
            _ => return Err(format!("a variable like `{}` cannot stand in a body", variable.name)),
        };
        self.bind(variable.name.clone(), Symbol::Variable(space, address));
        Ok(())
    }

    fn instruction(&mut self, instruction: &Instruction) -> Lowered {
        self.position = instruction.position;
        if self.steps.len() > MAX_STEPS {
            return Err(format!("the kernel has more than {MAX_STEPS} instructions with its calls inlined"));
        }
        self.guard = match &instruction.guard {
            None => None,
            Some(guard) => match self.register(&guard.register)? {
                (File::Predicate, slot) => Some(Source { slot, inverted: guard.negated }),
                _ => return Err(format!("`{}` is no predicate", guard.register)),
            },
        };
        let unsupported = || format!("unsupported instruction `{}`", instruction.full_name());
        match instruction.opcode.as_str() {
            "bra" => self.branch(instruction),
            "brx" => self.branch_indexed(instruction),
            "call" => self.call(instruction),
            "ret" => {
                match self.returns.clone() {
                    None => self.emit_exit(instruction.full_name()),
                    Some(label) => self.jump(instruction, vec![label], JumpKind::Always),
                }
                Ok(())
            }
            "exit" => {
                self.emit_exit(instruction.full_name());
                Ok(())
            }
            _ => isa::lower(self, instruction).unwrap_or_else(|| Err(unsupported())),
        }
    }

    /// Adds a jump whose action is made when all labels are known.
    fn jump(&mut self, instruction: &Instruction, targets: Vec<String>, kind: JumpKind) {
        self.jumps.push(Jump { step: self.steps.len(), targets, kind });
        self.emit_plain(instruction, Class::Control, Box::new(|_| Flow::Next));
    }

    fn branch(&mut self, instruction: &Instruction) -> Lowered {
        let Some(Operand::Name(label)) = instruction.operands.first() else {
            return Err("a branch needs a label".to_string());
        };
        self.jump(instruction, vec![format!("{}{label}", self.prefix)], JumpKind::Always);
        Ok(())
    }

    fn branch_indexed(&mut self, instruction: &Instruction) -> Lowered {
        let [index, Operand::Name(table)] = instruction.operands.as_slice() else {
            return Err("brx.idx needs an index and a table of labels".to_string());
        };
        let source = self.source::<u32>(index, None)?;
        let targets = self.tables.get(&format!("{}{table}", self.prefix)).cloned();
        let targets = targets.ok_or_else(|| format!("no table of labels is called `{table}`"))?;
        self.jump(instruction, targets, JumpKind::Indexed(source));
        Ok(())
    }

    /// `call (results), function, (arguments);`: the function's body, here.
    fn call(&mut self, instruction: &Instruction) -> Lowered {
        let at = instruction.operands.iter().position(|operand| matches!(operand, Operand::Name(_)));
        let Some((at, Operand::Name(name))) = at.map(|at| (at, &instruction.operands[at])) else {
            return Err("a call needs a function".to_string());
        };
        let list = |operand: Option<&Operand>| match operand {
            Some(Operand::List(list)) => list.clone(),
            _ => Vec::new(),
        };
        let results = list(instruction.operands[..at].last());
        let arguments = list(instruction.operands.get(at + 1));
        if matches!(self.symbol(name), Some(Symbol::Register { .. })) {
            return self.call_pointer(instruction, name, &results, &arguments);
        }
        if let Some(result) = isa::call(self, instruction, name, &results, &arguments) {
            return result;
        }
        let function =
            self.module.functions.iter().filter(|function| function.name == *name && !function.is_entry);
        let function = function.max_by_key(|function| function.body.is_some());
        let function = function.ok_or_else(|| format!("no function is called `{name}`"))?;
        let body = function.body.as_deref().ok_or_else(|| format!("function `{name}` has no body"))?;
        if self.calls.contains(name) {
            return self.call_routine(instruction, function, &results, &arguments);
        }
        if self.calls.len() >= MAX_CALLS {
            return Err("calls are nested too deep".to_string());
        }
        let mut scope = HashMap::new();
        let formals = function.returns.iter().zip(&results).chain(function.params.iter().zip(&arguments));
        for (formal, actual) in formals {
            scope.insert(formal.name.clone(), self.argument(formal, actual)?);
        }
        if (function.params.len(), function.returns.len()) != (arguments.len(), results.len()) {
            return Err(format!("a call of `{name}` has the wrong number of arguments or results"));
        }
        // Lanes that the guard excludes jump over the body.
        self.instances += 1;
        let prefix = format!("{}/", self.instances);
        let end = format!("{prefix}return");
        if let Some(guard) = self.guard {
            self.guard = Some(Source { inverted: !guard.inverted, ..guard });
            self.jump(instruction, vec![end.clone()], JumpKind::Always);
        } else {
            // The call itself counts.
            self.emit_plain(instruction, Class::Control, Box::new(|_| Flow::Next));
        }
        let scopes = std::mem::replace(&mut self.scopes, vec![scope]);
        let prefix = std::mem::replace(&mut self.prefix, prefix);
        let returns = self.returns.replace(end.clone());
        self.calls.push(name.clone());
        self.statements(body)?;
        self.calls.pop();
        self.scopes = scopes;
        self.prefix = prefix;
        self.returns = returns;
        self.labels.insert(end, self.steps.len() as u32);
        Ok(())
    }

    /// What a formal parameter stands for: the variable, register or constant that is passed.
    pub(super) fn argument(&mut self, formal: &Variable, actual: &Operand) -> Result<Symbol, String> {
        if formal.space == Space::Register {
            let file = file(formal.ty)?;
            let source = match file {
                File::Predicate => self.source::<bool>(actual, Some(formal.ty)),
                File::Narrow => self.source::<u32>(actual, Some(formal.ty)),
                File::Wide => self.source::<u64>(actual, Some(formal.ty)),
            };
            return Ok(Symbol::Register { file, slot: source?.slot, bits: formal.ty.bits() });
        }
        match actual {
            Operand::Name(name) => match self.symbol(name) {
                Some(symbol @ Symbol::Variable(Space::Local, _)) => Ok(symbol),
                _ => Err(format!("argument `{name}` is not supported")),
            },
            _ => Err("an argument of this form is not supported".to_string()),
        }
    }

    /// Makes the jumps, now that all labels are known.
    fn link(&mut self) -> Lowered {
        for jump in std::mem::take(&mut self.jumps) {
            let find = |label: &String| {
                let shown = label.rsplit('/').next().unwrap_or(label);
                self.labels.get(label).copied().ok_or_else(|| format!("no label is called `{shown}`"))
            };
            let targets = jump.targets.iter().map(find).collect::<Result<Vec<u32>, String>>()?;
            self.steps[jump.step].action = match jump.kind {
                JumpKind::Always => {
                    let target = targets[0];
                    Box::new(move |context: &mut Context<'_>| Flow::Jump(context.mask, target))
                }
                JumpKind::Indexed(source) => indexed(targets, source),
            };
        }
        Ok(())
    }
}

/// `brx.idx`: an index beyond the table is undefined; here those lanes end up at its last entry.
fn indexed(targets: Vec<u32>, source: Source) -> Action {
    Box::new(move |context: &mut Context<'_>| {
        let indices = context.registers.narrow[source.slot as usize];
        let mut parts: Vec<(u32, u32)> = Vec::new();
        for lane in lanes(context.mask) {
            let Some(&target) = targets.get(indices[lane] as usize).or(targets.last()) else {
                return Flow::Next;
            };
            match parts.iter_mut().find(|part| part.1 == target) {
                Some(part) => part.0 |= 1 << lane,
                None => parts.push((1 << lane, target)),
            }
        }
        match parts.as_slice() {
            [(mask, target)] => Flow::Jump(*mask, *target),
            _ => Flow::Scatter(parts),
        }
    })
}
