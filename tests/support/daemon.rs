//! The daemon, run on this machine.

use std::process::{Child, Command};

use super::stack::{Run, TestStack};

/// Killed on drop.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(stack: &TestStack, arguments: &[&str]) -> Self {
        Self::start_with(stack, arguments, &[])
    }

    pub fn start_with(stack: &TestStack, arguments: &[&str], variables: &[(&str, String)]) -> Self {
        let mut command = stack.command(&[&["daemon"], arguments].concat());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Self(command.spawn().expect("cofferdam"))
    }

    /// Tells it to stop, as the engine does.
    pub fn stop(self) -> Run {
        self.ask_to_stop();
        self.wait()
    }

    /// One that backs up all the time may be in the middle of it.
    pub fn stop_anywhere(self) -> Run {
        let run = self.stop();
        let code = if run.code == 130 { 130 } else { 0 };
        run.expect(code)
    }

    pub fn ask_to_stop(&self) {
        let id = self.0.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        assert!(told.expect("kill").success());
    }

    /// Until it has ended by itself.
    pub fn wait(mut self) -> Run {
        let child = std::mem::replace(&mut self.0, nothing());
        child.wait_with_output().expect("its output").into()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nothing() -> Child {
    Command::new("true").spawn().expect("true")
}
