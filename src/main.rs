use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [agent, kind] if agent == "agent" => cofferdam::agent::run(kind),
        _ => ExitCode::from(2),
    }
}
