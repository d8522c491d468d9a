//! A way to the receiver that breaks.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use socket2::SockRef;

/// How it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nothing listens.
    Down,
    /// Connections are reset at once.
    Reset,
    /// Connections are reset after some bytes.
    ResetLater,
    /// Something else answers.
    Garbage,
    /// Nothing answers.
    Stall,
}

pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    to: SocketAddr,
}

struct State {
    fault: Fault,
    /// Grows with each change.
    change: u64,
    open: Vec<TcpStream>,
}

impl Proxy {
    pub fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                fault: Fault::None,
                change: 0,
                open: Vec::new(),
            })),
            to,
        };
        proxy.listen(listener);
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on; connections that are open break.
    pub fn set(&self, fault: Fault) {
        let was = {
            let mut state = self.state.lock().unwrap();
            let was = state.fault;
            state.fault = fault;
            state.change += 1;
            for stream in state.open.drain(..) {
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                let _ = stream.shutdown(Shutdown::Both);
            }
            was
        };
        // The listening thread notices with its next connection.
        if fault == Fault::Down {
            let _ = TcpStream::connect(self.address);
        } else if was == Fault::Down {
            self.listen(bind(self.address));
        }
    }

    fn listen(&self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        let to = self.to;
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let fault = {
                    let mut state = state.lock().unwrap();
                    state.open.push(stream.try_clone().unwrap());
                    state.fault
                };
                if fault == Fault::Down {
                    return;
                }
                thread::spawn(move || serve(stream, fault, to));
            }
        });
    }
}

/// The listener before it may not be gone yet.
fn bind(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn serve(mut stream: TcpStream, fault: Fault, to: SocketAddr) {
    let reset = |stream: &TcpStream| {
        SockRef::from(stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    };
    match fault {
        Fault::None | Fault::Down => {
            let Ok(there) = TcpStream::connect(to) else {
                return;
            };
            let (back, mut forth) = (there.try_clone().unwrap(), there);
            let mut answer_to = stream.try_clone().unwrap();
            thread::spawn(move || {
                let mut back = back;
                let _ = std::io::copy(&mut back, &mut answer_to);
                let _ = answer_to.shutdown(Shutdown::Both);
            });
            let _ = std::io::copy(&mut stream, &mut forth);
            let _ = forth.shutdown(Shutdown::Both);
        }
        Fault::Reset => reset(&stream),
        Fault::ResetLater => {
            let _ = stream.read(&mut [0; 100]);
            reset(&stream);
        }
        Fault::Garbage => {
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(&[0x9b; 4000]);
        }
        Fault::Stall => {
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    }
}
