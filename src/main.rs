//! The `adjourn` binary. Everything is in the library.

fn main() -> std::process::ExitCode {
    adjourn::main()
}
