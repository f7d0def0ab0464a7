//! iceoryx2 behind six C functions, so that it goes through the very loops that measure everything else.
//!
//! An end publishes to one service, subscribes to another, or both; with `sleep` a message is announced by the
//! library's event service and waited for on it, otherwise it is polled for.

use core::ffi::{c_char, c_void, CStr};
use iceoryx2::prelude::*;

type Ipc = ipc::Service;
type Publisher = iceoryx2::port::publisher::Publisher<Ipc, [u64], ()>;
type Subscriber = iceoryx2::port::subscriber::Subscriber<Ipc, [u64], ()>;
type Notifier = iceoryx2::port::notifier::Notifier<Ipc>;
type Listener = iceoryx2::port::listener::Listener<Ipc>;
type Loan = iceoryx2::sample_mut_uninit::SampleMutUninit<Ipc, [core::mem::MaybeUninit<u64>], ()>;
type Taken = iceoryx2::sample::Sample<Ipc, [u64], ()>;

/// Files of this benchmark lie in a folder of its own and carry a prefix of their own.
fn scratch(dir: &str, prefix: &str) -> Config {
    let mut config = Config::default();
    config.global.set_root_path(&Path::new(dir.as_bytes()).expect("path"));
    config.global.prefix = FileName::new(prefix.as_bytes()).expect("prefix");
    config
}

pub struct End {
    loan: Option<Loan>,
    taken: Option<Taken>,
    publisher: Option<Publisher>,
    subscribers: Vec<Subscriber>,
    notifier: Option<Notifier>,
    listener: Option<Listener>,
    _node: Node<Ipc>,
}

#[repr(C)]
pub struct Spec {
    dir: *const c_char,
    prefix: *const c_char,
    publish: *const c_char,
    subscribe: *const c_char,
    bytes: usize,
    depth: usize,
    subscribers: usize,
    sleep: i32,
}

unsafe fn text<'a>(p: *const c_char) -> Option<&'a str> {
    if p.is_null() {
        return None;
    }
    CStr::from_ptr(p).to_str().ok()
}

type Failure = Box<dyn core::error::Error>;

fn open(spec: &Spec) -> Result<End, Failure> {
    let (dir, prefix) = unsafe { (text(spec.dir).ok_or("dir")?, text(spec.prefix).ok_or("prefix")?) };
    let (publish, subscribe) = unsafe { (text(spec.publish), text(spec.subscribe)) };
    let node = NodeBuilder::new().config(&scratch(dir, prefix)).create::<Ipc>()?;
    let data = |name: &str| -> Result<_, Failure> {
        Ok(node.service_builder(&name.try_into()?)
            .publish_subscribe::<[u64]>()
            .max_subscribers(spec.subscribers.max(2))
            .max_publishers(2)
            .max_nodes(4)
            .subscriber_max_buffer_size(spec.depth)
            .open_or_create()?)
    };
    let event = |name: &str| -> Result<_, Failure> {
        Ok(node.service_builder(&(name.to_string() + "/event").as_str().try_into()?).event().open_or_create()?)
    };
    let (mut publisher, mut notifier, mut listener, mut subscribers) = (None, None, None, Vec::new());
    if let Some(name) = publish {
        publisher = Some(data(name)?.publisher_builder().initial_max_slice_len(spec.bytes / 8).create()?);
        if spec.sleep != 0 {
            notifier = Some(event(name)?.notifier_builder().create()?);
        }
    }
    if let Some(name) = subscribe {
        let service = data(name)?;
        for _ in 0..spec.subscribers {
            subscribers.push(service.subscriber_builder().create()?);
        }
        if spec.sleep != 0 {
            listener = Some(event(name)?.listener_builder().create()?);
        }
    }
    Ok(End { loan: None, taken: None, publisher, subscribers, notifier, listener, _node: node })
}

/// NULL on failure, which is told on standard error.
#[no_mangle]
pub unsafe extern "C" fn bench_iox_open(spec: *const Spec) -> *mut c_void {
    set_log_level(LogLevel::Fatal);
    match open(&*spec) {
        Ok(end) => Box::into_raw(Box::new(end)) as *mut c_void,
        Err(why) => {
            eprintln!("bench: iceoryx2: {why:?}");
            core::ptr::null_mut()
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn bench_iox_close(end: *mut c_void) {
    drop(Box::from_raw(end as *mut End));
}

impl End {
    fn announce(&self) {
        if let Some(notifier) = &self.notifier {
            let _ = notifier.notify();
        }
    }

    fn wait(&mut self) {
        match &mut self.listener {
            Some(listener) => {
                let _ = listener.blocking_wait(|_| {});
            }
            None => core::hint::spin_loop(),
        }
    }

    fn next(&mut self) -> Taken {
        loop {
            if let Ok(Some(sample)) = self.subscribers[0].receive() {
                return sample;
            }
            self.wait();
        }
    }
}

unsafe fn copy_out(sample: &[u64], to: *mut u64, cap: usize) -> usize {
    let words = sample.len().min(cap / 8);
    core::ptr::copy_nonoverlapping(sample.as_ptr(), to, words);
    words * 8
}

#[no_mangle]
pub unsafe extern "C" fn bench_iox_send(end: *mut c_void, from: *const u64, len: usize) {
    let end = &mut *(end as *mut End);
    let publisher = end.publisher.as_ref().unwrap();
    loop {
        if let Ok(mut loan) = publisher.loan_slice_uninit(len / 8) {
            core::ptr::copy_nonoverlapping(from, loan.payload_mut().as_mut_ptr() as *mut u64, len / 8);
            let _ = loan.assume_init().send();
            break;
        }
    }
    end.announce();
}

#[no_mangle]
pub unsafe extern "C" fn bench_iox_recv(end: *mut c_void, to: *mut u64, cap: usize) -> usize {
    let end = &mut *(end as *mut End);
    let sample = end.next();
    copy_out(sample.payload(), to, cap)
}

/// Of one of several subscribers; 0: nothing there.
#[no_mangle]
pub unsafe extern "C" fn bench_iox_try(end: *mut c_void, which: usize, to: *mut u64, cap: usize) -> usize {
    let end = &*(end as *mut End);
    match end.subscribers[which].receive() {
        Ok(Some(sample)) => copy_out(sample.payload(), to, cap),
        _ => 0,
    }
}

/// Room for a message to be written in place, and its sending.
#[no_mangle]
pub unsafe extern "C" fn bench_iox_loan(end: *mut c_void, len: usize) -> *mut u64 {
    let end = &mut *(end as *mut End);
    loop {
        if let Ok(mut loan) = end.publisher.as_ref().unwrap().loan_slice_uninit(len / 8) {
            let at = loan.payload_mut().as_mut_ptr() as *mut u64;
            end.loan = Some(loan);
            return at;
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn bench_iox_commit(end: *mut c_void) {
    let end = &mut *(end as *mut End);
    if let Some(loan) = end.loan.take() {
        let _ = loan.assume_init().send();
    }
    end.announce();
}

/// The next message in place, until it is given back.
#[no_mangle]
pub unsafe extern "C" fn bench_iox_take(end: *mut c_void, len: *mut usize) -> *const u64 {
    let end = &mut *(end as *mut End);
    let sample = end.next();
    *len = sample.payload().len() * 8;
    let at = sample.payload().as_ptr();
    end.taken = Some(sample);
    at
}

#[no_mangle]
pub unsafe extern "C" fn bench_iox_release(end: *mut c_void) {
    let end = &mut *(end as *mut End);
    end.taken = None;
}
