//! Conversions.

use super::Maps;
use crate::ptx::ast;

/// What a conversion does, `None` where its form is not known.
pub fn decode<M: Maps>(_instruction: &ast::Instruction, _maps: M) -> Option<M::Output> {
    None
}
