//! Time in a browser. `std::time::Instant` panics there, so this is `performance.now` and `setTimeout`.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use js_sys::{Function, Reflect};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};

/// A time of the page's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant {
    /// Milliseconds since the page began.
    millis: f64,
}

impl Instant {
    pub(super) fn now() -> Self {
        let millis = property("performance")
            .and_then(|performance| performance.dyn_into::<web_sys::Performance>().ok())
            .map_or_else(js_sys::Date::now, |performance| performance.now());
        Self { millis }
    }

    pub(super) fn elapsed(self) -> Duration {
        let millis = (Self::now().millis - self.millis).max(0.0);
        Duration::try_from_secs_f64(millis / 1000.0).unwrap_or_default()
    }
}

/// A property of the global object: that of a page or of a worker.
fn property(name: &str) -> Option<JsValue> {
    let value = Reflect::get(&js_sys::global(), &name.into()).ok()?;
    (!value.is_undefined()).then_some(value)
}

/// Calls a function of the global object.
fn call(name: &str, arguments: &[&JsValue]) -> JsValue {
    let function = property(name).and_then(|function| function.dyn_into::<Function>().ok());
    let arguments: js_sys::Array = arguments.iter().copied().collect();
    // Every page and every worker has both functions that are called here, and neither throws.
    function.and_then(|function| function.apply(&js_sys::global(), &arguments).ok()).unwrap_or_default()
}

/// Completes after a time.
#[derive(Debug)]
pub(super) struct Sleep {
    since: Instant,
    time: Duration,
    timeout: Option<Timeout>,
}

impl Sleep {
    pub(super) fn new(time: Duration) -> Self {
        Self::since(Instant::now(), time)
    }

    /// Counted from an earlier moment.
    pub(super) const fn since(since: Instant, time: Duration) -> Self {
        Self { since, time, timeout: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.time.saturating_sub(self.since.elapsed());
        if left.is_zero() {
            return Poll::Ready(());
        }
        match &self.timeout {
            Some(timeout) if !timeout.fired.get() => {
                timeout.waker.replace(cx.waker().clone());
            }
            // The first call, or a timeout that fired early: browsers round, and limit how long one can be.
            _ => self.timeout = Some(Timeout::new(left, cx.waker().clone())),
        }
        Poll::Pending
    }
}

/// One call of `setTimeout`. Dropping it cancels the call.
#[derive(Debug)]
struct Timeout {
    id: JsValue,
    fired: Rc<Cell<bool>>,
    waker: Rc<RefCell<Waker>>,
    /// What the browser calls.
    _callback: Closure<dyn FnMut()>,
}

impl Timeout {
    fn new(after: Duration, waker: Waker) -> Self {
        let fired = Rc::new(Cell::new(false));
        let waker = Rc::new(RefCell::new(waker));
        let callback = Closure::<dyn FnMut()>::new({
            let (fired, waker) = (Rc::clone(&fired), Rc::clone(&waker));
            move || {
                fired.set(true);
                let waker = waker.borrow().clone();
                waker.wake();
            }
        });
        // A longer delay than this one is taken as none (HTML, timer initialisation steps).
        let millis = i32::try_from(after.as_millis()).unwrap_or(i32::MAX).max(1);
        let id = call("setTimeout", &[callback.as_ref(), &millis.into()]);
        Self { id, fired, waker, _callback: callback }
    }
}

impl Drop for Timeout {
    fn drop(&mut self) {
        if !self.fired.get() {
            call("clearTimeout", &[&self.id]);
        }
    }
}

/// Returns `None` if the future does not complete within the time.
pub(super) async fn timeout<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    let (mut sleep, mut future) = (Sleep::new(time), pin!(future));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut sleep).poll(cx).map(|()| None),
    })
    .await
}
