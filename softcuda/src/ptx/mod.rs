//! The PTX front end: text to [`ast::Module`]. What instructions mean is not known here, only how they are written.

pub mod ast;
