//! Parse, run, one error line, exit code.

fn main() {}
