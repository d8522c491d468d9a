//! What the service manager is told: `sd_notify(3)`, watchdog included.
//!
//! Without a service manager (no `NOTIFY_SOCKET`) nothing is said. A message that does
//! not arrive is logged once and is no reason to stop.

use std::{io, time::Duration};

use sd_notify::NotifyState;

/// The service manager.
#[derive(Debug)]
pub struct Manager {
    /// How often it wants to hear that all is well.
    alive_every: Option<Duration>,
    has_failed: bool,
}

impl Manager {
    /// As the environment names it.
    #[must_use]
    pub fn of_environment() -> Self {
        Self {
            // Twice in its time, so that one that comes late is early enough.
            alive_every: sd_notify::watchdog_enabled()
                .map(|limit| limit / 2)
                .filter(|every| !every.is_zero()),
            has_failed: false,
        }
    }

    /// How often [`Self::alive`] has to be said; `None` if it need not. To be said from
    /// where it would show that the daemon hangs: the loop that takes counts.
    #[must_use]
    pub const fn alive_every(&self) -> Option<Duration> {
        self.alive_every
    }

    /// Everything is attached.
    pub fn ready(&mut self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// What is new, in one line.
    pub fn status(&mut self, status: &str) {
        self.tell(&[NotifyState::Status(&one_line(status))]);
    }

    /// The daemon does not hang, if the service manager wants to hear that.
    pub fn alive(&mut self) {
        if self.alive_every.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// The configuration is being read again; [`Self::ready`] must follow.
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => self.failed(&error),
        }
    }

    /// The end begins.
    pub fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping]);
    }

    fn tell(&mut self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !self.has_failed {
            log::warn!("cannot tell the service manager how the daemon is: {error}");
        }
        self.has_failed = true;
    }
}

/// A line break would begin another assignment.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::net::UnixDatagram, process, process::Command};

    use super::*;

    /// In a process of its own, since the environment is that of all tests.
    #[test]
    #[ignore = "run by `the_service_manager_hears_all_of_it`"]
    fn say_everything() {
        let mut manager = Manager::of_environment();
        assert_eq!(manager.alive_every(), Some(Duration::from_secs(15)));
        manager.ready("tracing\nMAINPID=1");
        manager.alive();
        manager.reloading();
        manager.ready("tracing");
        manager.status("degraded");
        manager.stopping();
    }

    fn child() -> Command {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "daemon::notify::tests::say_everything"]);
        child.args(["--ignored", "--quiet"]);
        child.env("WATCHDOG_USEC", "30000000");
        child
    }

    #[test]
    fn the_service_manager_hears_all_of_it() {
        let path = env::temp_dir().join(format!("droptrace-{}-notify", process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let output = child().env("NOTIFY_SOCKET", &path).output().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut buffer = [0; 512];
        let mut next = || {
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(next(), "READY=1\nSTATUS=tracing MAINPID=1\n");
        assert_eq!(next(), "WATCHDOG=1\n");
        let reloading = next();
        let (state, time) = reloading.split_once('\n').unwrap();
        assert_eq!(state, "RELOADING=1");
        let time = time.strip_prefix("MONOTONIC_USEC=").unwrap().trim_end();
        assert!(time.parse::<u64>().unwrap() > 0);
        assert_eq!(next(), "READY=1\nSTATUS=tracing\n");
        assert_eq!(next(), "STATUS=degraded\n");
        assert_eq!(next(), "STOPPING=1\n");
        assert!(socket.recv(&mut buffer).is_err(), "and nothing more");
    }

    #[test]
    fn a_service_manager_that_is_gone_is_no_reason_to_stop() {
        let output = child().env("NOTIFY_SOCKET", "/nonexistent/notify").output();
        assert!(output.unwrap().status.success());
    }
}
