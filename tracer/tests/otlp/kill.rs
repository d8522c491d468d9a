//! The exporter killed at moments that it does not choose.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    BOOT, line,
    receiver::{Answer, Receiver},
    start, until,
};

const KILLS: u64 = 100;
/// Numbers of one life.
const LIFE: u64 = 1 << 20;
/// Where an exporter finds what it is to do: directory, address, first number.
const TASK: &str = "DROPTRACE_TEST_TASK";

/// What a killed one runs: records without end, and on standard output the last number
/// that is safe.
#[test]
#[ignore = "it is started by the test below, to be killed"]
fn victim() {
    let task = env::var(TASK).unwrap();
    let [dir, endpoint, first] = task.split('|').collect::<Vec<_>>().try_into().unwrap();
    let first: u64 = first.parse().unwrap();
    let otlp = start(dir.as_ref(), endpoint, "grpc", "", first + LIFE / 2);
    let mut told = None;
    for seq in first..first + LIFE / 2 {
        otlp.push([line(seq)]);
        if seq % 20 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let safe = otlp.health().spooled_seq;
        if safe != told {
            println!("\nsafe {}", safe.unwrap());
            told = safe;
        }
    }
}

#[test]
fn what_was_safe_arrives_though_the_exporter_is_killed_a_hundred_times() {
    let dir = TempDir::new().unwrap();
    let receiver = Receiver::start("grpc", None);
    let endpoint = format!("http://{}", receiver.address());
    let mut safe = Vec::new();
    let mut random = u64::from(std::process::id()) | 1 << 40;
    for kill in 0..KILLS {
        if kill % 5 == 0 {
            receiver.answer([Answer::TakeAndFail, Answer::Busy]);
        }
        let first = kill * LIFE;
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "kill::victim", "--nocapture"])
            .env(TASK, format!("{}|{endpoint}|{first}", dir.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, told) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut last = None;
            for text in output.lines().map_while(Result::ok) {
                if let Some(seq) = text.strip_prefix("safe ") {
                    last = seq.parse::<u64>().ok();
                    let _ = tell.send(());
                }
            }
            last
        });
        // From its first record on.
        told.recv_timeout(Duration::from_secs(30)).unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        thread::sleep(Duration::from_micros(random % 100_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = reader.join().unwrap().unwrap();
        safe.push(first..=last);
    }
    let otlp = start(dir.path(), &endpoint, "grpc", "", KILLS * LIFE);
    until("the spool is empty", || {
        let health = otlp.health();
        health.spool.records == 0 && health.oldest.is_none()
    });
    otlp.stop();

    let got = receiver.got();
    let mut records = 0;
    for range in safe {
        for seq in range {
            assert_eq!(
                got.records.get(&seq).copied(),
                Some(crate::packets(seq)),
                "{seq} was safe"
            );
            records += 1;
        }
    }
    assert!(
        records > KILLS * 20,
        "{records} are too few to say anything"
    );
    // What was torn had not been called safe; nothing else is missing.
    let torn = got.lost.get("spool_damaged").map_or(0, |it| it.records);
    assert!(torn <= KILLS);
    assert_eq!(got.lost.len(), usize::from(torn > 0));
    println!(
        "{records} records were safe in {KILLS} lives ({BOOT}); {} came, {} of them again, {torn} \
         torn were told",
        got.records.len(),
        got.duplicates
    );
}
