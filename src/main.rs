use std::process::ExitCode;

use cofferdam::agent::JOB;
use cofferdam::agent::errand;
use cofferdam::agent::job::Errand;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let errand = match arguments.as_slice() {
        [agent, kind] if agent == "agent" => Errand::from_argument(kind),
        _ => None,
    };
    match errand {
        Some(errand) => {
            let job = std::env::var(JOB).unwrap_or_default();
            println!("{}", errand::run(errand, &job));
            ExitCode::SUCCESS
        }
        None => ExitCode::from(2),
    }
}
