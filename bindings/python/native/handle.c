/* The hot path of the Python sockets: module shmipc._handle, in the same shared object as the cffi module.
 *
 * cffi releases the interpreter lock around every call, and beside a busy Python thread getting it back costs
 * milliseconds. So what does not wait runs here with the lock held, in one call per message; only waiting and copying
 * much release it. No protocol is here: every function calls the public interface of shmipc_socket.h.
 *
 * A Handle belongs to one thread at a time. `lock` is held during each call of the library, never while Python code
 * runs, so other threads take turns, and views may be released by whoever drops them. The library asks
 * shmipc_python_stop every 40 ms of a wait: it ends when another thread wants the socket, to close it perhaps, and in
 * the main thread always, since there Python handles signals (most end the wait by themselves). Then the wait goes on.
 * After fork the child gets SHMIPC_EFORKED; the lock, which a thread of the parent may hold for ever, is not touched.
 *
 * Written for the limited interface of Python 3.9, which has no METH_FASTCALL: arguments come as tuples there. */

#define TURN_US 50000
#define COPY_MUCH 65536    /* from here on a copy releases the interpreter lock */
#define TAG_BUFFERS 0x80u  /* the codec reads its payload in place, see _codecs.py */

typedef struct {
    PyObject_HEAD
    shmipc_socket *socket; /* NULL: closed */
    shmipc_ctx *ctx;
    PyObject *fail;        /* called with (code, detail, operation), raises */
    PyThread_type_lock lock;
    unsigned long main_thread;
    int waiting;           /* threads that want the lock */
    int in_main;           /* the wait in progress is the main thread's */
    int forked;
    unsigned char key[32]; /* of a sealed channel, wiped at the end */
} Handle;

/* Called by the library while it waits, without the interpreter lock. */
static int shmipc_python_stop(void *arg)
{
    Handle *h = (Handle *)arg;
    return h->in_main || __atomic_load_n(&h->waiting, __ATOMIC_RELAXED) > 0;
}

/* How a sealed channel calls the built-in cipher, XAES-256-GCM: the nonce may be drawn at random. */
static int seal_payload(void *key, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in,
                        size_t len, void *out)
{
    return shmipc_xaes_seal(key, nonce, aad, aad_len, in, len, out, (unsigned char *)out + len);
}

static int open_payload(void *key, const unsigned char nonce[24], const void *aad, size_t aad_len, const void *in,
                        size_t len, void *out)
{
    if (len < 16) return SHMIPC_ECORRUPT;
    return shmipc_xaes_open(key, nonce, aad, aad_len, in, len - 16, (const unsigned char *)in + len - 16, out);
}

/* ---- errors, turns ---- */

static void fail(Handle *h, int code, const char *operation)
{
    const char *detail = h->ctx && !h->forked && code != SHMIPC_EFORKED ? shmipc_ctx_detail(h->ctx) : "";
    PyObject *r = PyObject_CallFunction(h->fail, "iss", code, detail ? detail : "", operation);
    if (r) PyErr_SetString(PyExc_SystemError, "the error function of a Handle returned");
    Py_XDECREF(r);
}

static int take_turn(Handle *h)
{
    PyLockStatus got = PY_LOCK_FAILURE;
    __atomic_fetch_add(&h->waiting, 1, __ATOMIC_RELAXED);
    while (got != PY_LOCK_ACQUIRED && !h->forked) {
        Py_BEGIN_ALLOW_THREADS
        got = PyThread_acquire_lock_timed(h->lock, TURN_US, 0);
        Py_END_ALLOW_THREADS
        if (got != PY_LOCK_ACQUIRED && PyErr_CheckSignals()) break;
    }
    __atomic_fetch_sub(&h->waiting, 1, __ATOMIC_RELAXED);
    return got == PY_LOCK_ACQUIRED;
}

/* 1: the socket is ours until leave. 0: an exception is set. */
static int enter(Handle *h, const char *operation)
{
    if (!h->forked && (PyThread_acquire_lock(h->lock, NOWAIT_LOCK) || take_turn(h))) {
        if (h->socket) return 1;
        PyThread_release_lock(h->lock);
        fail(h, SHMIPC_ECLOSED, operation);
    } else if (!PyErr_Occurred()) {
        fail(h, SHMIPC_EFORKED, operation);
    }
    return 0;
}

static void leave(Handle *h) { PyThread_release_lock(h->lock); }

/* A wait was stopped: signals, and whoever else wants the socket. */
static int breathe(Handle *h, const char *operation)
{
    struct timespec nap = {0, 200000};
    int waiting = __atomic_load_n(&h->waiting, __ATOMIC_RELAXED);
    leave(h);
    if (PyErr_CheckSignals()) return 0;
    if (waiting) {
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&nap, NULL);
        Py_END_ALLOW_THREADS
    }
    return enter(h, operation);
}

typedef struct {
    int64_t until, left;
} Wait;

static Wait wait_begin(Handle *h, int64_t timeout_ns)
{
    int64_t now = timeout_ns > 0 ? shmipc__os_now_ns() : 0;
    Wait w;
    w.until = timeout_ns < 0 || timeout_ns > INT64_MAX - now ? -1 : now + timeout_ns;
    w.left = w.until < 0 ? -1 : timeout_ns;
    h->in_main = PyThread_get_thread_ident() == h->main_thread;
    return w;
}

/* After a stop: 1 goes on with what is left, 0 the time has passed, -1 an exception is set and the handle left. */
static int wait_on(Handle *h, Wait *w, const char *operation)
{
    if (!breathe(h, operation)) return -1;
    h->in_main = PyThread_get_thread_ident() == h->main_thread;
    if (w->until >= 0) w->left = w->until - shmipc__os_now_ns();
    return w->until < 0 || w->left > 0;
}

/* ---- sending ---- */

typedef struct {
    const void *data, *topic;
    size_t len, topic_len;
    const int64_t *pieces; /* address, length, ... if not NULL: `len` bytes in all, to be joined in the loan */
    Py_ssize_t n_pieces;
    uint32_t tag;
} Sending;

static int send_pieces(Handle *h, const Sending *m, int64_t timeout_ns)
{
    shmipc_loan loan;
    unsigned char *at;
    Py_ssize_t i;
    int rc = shmipc_loan_open(h->socket, m->len, &loan);
    if (rc == SHMIPC_EFULL && timeout_ns) {
        shmipc_poll_item item = {h->socket, SHMIPC_POLL_OUT, 0};
        rc = shmipc_poll(&item, 1, timeout_ns);
        if (rc > 0) rc = shmipc_loan_open(h->socket, m->len, &loan);
        if (rc == SHMIPC_ETIMEDOUT) rc = SHMIPC_EFULL;
    }
    if (rc) return rc;
    at = (unsigned char *)loan.data;
    for (i = 0; i < m->n_pieces; i += 2) {
        memcpy(at, (const void *)(intptr_t)m->pieces[i], (size_t)m->pieces[i + 1]);
        at += m->pieces[i + 1];
    }
    loan.tag = m->tag;
    rc = shmipc_loan_commit(&loan, timeout_ns);
    if (rc) (void)shmipc_loan_discard(&loan);
    return rc;
}

static int send_once(Handle *h, const Sending *m, int64_t timeout_ns)
{
    if (m->pieces) return send_pieces(h, m, timeout_ns);
    if (m->topic) return shmipc_send_topic(h->socket, m->topic, m->topic_len, m->data, m->len, m->tag);
    return shmipc_send_tag(h->socket, m->data, m->len, m->tag, timeout_ns);
}

static int send_unlocked(Handle *h, const Sending *m, int64_t timeout_ns)
{
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = send_once(h, m, timeout_ns);
    Py_END_ALLOW_THREADS
    return rc;
}

/* True, False when it stayed full, or NULL. The first try keeps the interpreter lock; if we are going to wait it asks
 * for one nanosecond, since a try with 0 counts as a drop. */
static PyObject *send_message(Handle *h, const Sending *m, int64_t timeout_ns)
{
    Wait w;
    int rc, on = 1;
    if (!enter(h, "send")) return NULL;
    rc = m->len >= COPY_MUCH ? send_unlocked(h, m, timeout_ns != 0) : send_once(h, m, timeout_ns != 0);
    if ((rc == SHMIPC_EFULL || rc == SHMIPC_EINTR) && timeout_ns) {
        w = wait_begin(h, timeout_ns);
        do rc = send_unlocked(h, m, w.left);
        while (rc == SHMIPC_EINTR && (on = wait_on(h, &w, "send")) > 0);
        if (on < 0) return NULL;
    }
    leave(h);
    if (rc == SHMIPC_OK) Py_RETURN_TRUE;
    if (rc == SHMIPC_EFULL || rc == SHMIPC_EINTR) Py_RETURN_FALSE;
    fail(h, rc, "send");
    return NULL;
}

/* ---- receiving ---- */

/* How a message is handed to Python: None after the timeout, (tag, bytes), or (tag, view, address, length), where view
 * goes to release. */
static void message_end(Handle *h, shmipc_msg *m, int consumed)
{
    if (consumed || shmipc_socket_role(h->socket) != SHMIPC_PULL) (void)shmipc_release(m);
    else (void)shmipc_reject(m);
}

static PyObject *message_bytes(Handle *h, shmipc_msg *m)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)m->len), *r;
    if (!bytes) return message_end(h, m, 0), NULL;
    if (m->len >= COPY_MUCH) {
        Py_BEGIN_ALLOW_THREADS
        memcpy(PyBytes_AsString(bytes), m->data, (size_t)m->len);
        Py_END_ALLOW_THREADS
    } else if (m->len) {
        memcpy(PyBytes_AsString(bytes), m->data, (size_t)m->len);
    }
    message_end(h, m, 1);
    r = Py_BuildValue("(IN)", (unsigned)m->tag, bytes);
    return r;
}

static PyObject *message_view(Handle *h, const shmipc_msg *m)
{
    const unsigned char *data = (const unsigned char *)m->data, *room = (const unsigned char *)m->room;
    shmipc_msg *kept = (shmipc_msg *)malloc(sizeof *kept);
    PyObject *r;
    if (!kept) {
        shmipc_msg lost = *m;
        message_end(h, &lost, 0);
        return PyErr_NoMemory();
    }
    *kept = *m;
    if (data >= room && data < room + sizeof m->room) kept->data = (unsigned char *)kept->room + (data - room);
    r = Py_BuildValue("(IKKK)", (unsigned)m->tag, (unsigned long long)(uintptr_t)kept,
                      (unsigned long long)(uintptr_t)kept->data, (unsigned long long)kept->len);
    if (!r) message_end(h, kept, 0), free(kept);
    return r;
}

/* All of a subscriber's views are out, so the message is copied, by trying larger and larger buffers. */
static PyObject *message_copied(Handle *h, int *rc)
{
    shmipc_msg m;
    size_t cap = 1 << 16;
    unsigned char *buf = NULL;
    PyObject *r = NULL;
    do {
        unsigned char *more = (unsigned char *)realloc(buf, cap);
        if (!more) {
            *rc = SHMIPC_ENOMEM;
            break;
        }
        buf = more;
        *rc = shmipc_recv_msg(h->socket, buf, cap, &m, 0);
        cap *= 4;
    } while (*rc == SHMIPC_EMSGSIZE && cap < (size_t)1 << 34);
    if (*rc == SHMIPC_OK) {
        r = Py_BuildValue("(IN)", (unsigned)m.tag, PyBytes_FromStringAndSize((char *)buf, (Py_ssize_t)m.len));
    }
    free(buf);
    return r;
}

static int take_unlocked(Handle *h, shmipc_msg *m, int64_t timeout_ns)
{
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = shmipc_take(h->socket, m, timeout_ns);
    Py_END_ALLOW_THREADS
    return rc;
}

/* SHMIPC_OK, a code, or 1: an exception is set and the handle left. */
static int take_waiting(Handle *h, shmipc_msg *m, int64_t timeout_ns)
{
    Wait w = wait_begin(h, timeout_ns);
    int rc, on = 1;
    do rc = take_unlocked(h, m, w.left);
    while (rc == SHMIPC_EINTR && (on = wait_on(h, &w, "recv")) > 0);
    return on < 0 ? 1 : rc == SHMIPC_EINTR ? SHMIPC_ETIMEDOUT : rc;
}

/* The next message, the handle being ours; *rc is 1 if it is not any more. NULL with *rc a code, or with an
 * exception. */
static PyObject *next_message(Handle *h, int64_t timeout_ns, int view, int *rc)
{
    shmipc_msg m;
    *rc = shmipc_take(h->socket, &m, 0);
    if (*rc == SHMIPC_ETIMEDOUT && timeout_ns) *rc = take_waiting(h, &m, timeout_ns);
    if (*rc == SHMIPC_EBUSY) return message_copied(h, rc);
    if (*rc) return NULL;
    return view || m.tag & TAG_BUFFERS ? message_view(h, &m) : message_bytes(h, &m);
}

static PyObject *recv_message(Handle *h, int64_t timeout_ns, int view)
{
    PyObject *r;
    int rc;
    if (!enter(h, "recv")) return NULL;
    r = next_message(h, timeout_ns, view, &rc);
    if (rc == 1) return NULL;
    leave(h);
    if (r || PyErr_Occurred()) return r;
    if (rc == SHMIPC_ETIMEDOUT) Py_RETURN_NONE;
    fail(h, rc, "recv");
    return NULL;
}

/* A list of up to `count` messages; waits for the first only. */
static PyObject *recv_messages(Handle *h, Py_ssize_t count, int64_t timeout_ns)
{
    PyObject *list = PyList_New(0), *r = NULL;
    int rc = SHMIPC_OK;
    Py_ssize_t n;
    if (!list || !enter(h, "recv_many")) return Py_XDECREF(list), NULL;
    for (n = 0; n < count; n++) {
        r = next_message(h, n ? 0 : timeout_ns, 0, &rc);
        if (!r || PyList_Append(list, r)) break;
        Py_DECREF(r);
        r = NULL;
    }
    Py_XDECREF(r);
    if (rc != 1) leave(h);
    if (rc < 0 && rc != SHMIPC_ETIMEDOUT && n == 0) fail(h, rc, "recv_many");
    if (PyErr_Occurred()) return Py_DECREF(list), NULL;
    return list;
}

/* Into memory of the caller's: (tag, length) or None. */
static PyObject *recv_into(Handle *h, void *buf, size_t cap, int64_t timeout_ns)
{
    shmipc_msg m;
    int rc, on = 1;
    Wait w;
    if (!enter(h, "recv_into")) return NULL;
    rc = shmipc_recv_msg(h->socket, buf, cap, &m, 0);
    if (rc == SHMIPC_ETIMEDOUT && timeout_ns) {
        w = wait_begin(h, timeout_ns);
        do {
            Py_BEGIN_ALLOW_THREADS
            rc = shmipc_recv_msg(h->socket, buf, cap, &m, w.left);
            Py_END_ALLOW_THREADS
        } while (rc == SHMIPC_EINTR && (on = wait_on(h, &w, "recv_into")) > 0);
        if (on < 0) return NULL;
    }
    leave(h);
    if (rc == SHMIPC_OK) return Py_BuildValue("(IK)", (unsigned)m.tag, (unsigned long long)m.len);
    if (rc == SHMIPC_ETIMEDOUT || rc == SHMIPC_EINTR) Py_RETURN_NONE;
    fail(h, rc, "recv_into");
    return NULL;
}

/* ---- batches ---- */

static int batch_item(PyObject *list, Py_ssize_t i, shmipc_item *item)
{
    PyObject *pair = PyList_GetItem(list, i), *data;
    char *at;
    Py_ssize_t len;
    if (!pair || !PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
        return PyErr_SetString(PyExc_TypeError, "(tag, bytes)"), 0;
    }
    data = PyTuple_GetItem(pair, 1);
    item->tag = (uint32_t)PyLong_AsUnsignedLong(PyTuple_GetItem(pair, 0));
    if (PyErr_Occurred() || PyBytes_AsStringAndSize(data, &at, &len)) return 0;
    item->data = at;
    item->len = (uint64_t)len;
    item->pad = 0;
    return 1;
}

static int send_many_unlocked(Handle *h, const shmipc_item *items, uint32_t count, int64_t timeout_ns)
{
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = shmipc_send_many(h->socket, items, count, timeout_ns);
    Py_END_ALLOW_THREADS
    return rc;
}

/* How many of the items were sent before the time passed; all of them, if it did not. */
static PyObject *send_batch(Handle *h, const shmipc_item *items, uint32_t count, int64_t timeout_ns)
{
    uint32_t n = 0;
    int rc = 1, on = 1;
    Wait w;
    if (!enter(h, "send_many")) return NULL;
    w = wait_begin(h, timeout_ns);
    while (n < count && rc > 0) {
        rc = send_many_unlocked(h, items + n, count - n, w.left);
        if (rc > 0) n += (uint32_t)rc;
        if (n < count && (rc == SHMIPC_EINTR || rc > 0) && timeout_ns) {
            on = wait_on(h, &w, "send_many");
            if (on < 0) return NULL;
            rc = on ? 1 : SHMIPC_EFULL;
        }
    }
    leave(h);
    if (n == 0 && rc < 0 && rc != SHMIPC_EFULL && rc != SHMIPC_EINTR) return fail(h, rc, "send_many"), NULL;
    return PyLong_FromUnsignedLong(n);
}

/* ---- methods ---- */

typedef PyObject *const *Args;

static int int_arg(PyObject *o, int64_t *out)
{
    *out = (int64_t)PyLong_AsLongLong(o);
    return *out != -1 || !PyErr_Occurred();
}

static int arity(const char *name, Py_ssize_t n, Py_ssize_t least, Py_ssize_t most)
{
    if (n >= least && n <= most) return 1;
    PyErr_Format(PyExc_TypeError, "Handle.%s: wrong number of arguments", name);
    return 0;
}

/* send(bytes, tag, timeout_ns, topic=None) */
static PyObject *Handle_send(Handle *h, Args a, Py_ssize_t n)
{
    Sending m;
    int64_t tag, timeout_ns;
    char *data, *topic = NULL;
    Py_ssize_t len, topic_len = 0;
    if (!arity("send", n, 3, 4) || !int_arg(a[1], &tag) || !int_arg(a[2], &timeout_ns)) return NULL;
    if (PyBytes_AsStringAndSize(a[0], &data, &len)) return NULL;
    if (n == 4 && a[3] != Py_None && PyBytes_AsStringAndSize(a[3], &topic, &topic_len)) return NULL;
    memset(&m, 0, sizeof m);
    m.data = data;
    m.len = (size_t)len;
    m.topic = topic;
    m.topic_len = (size_t)topic_len;
    m.tag = (uint32_t)tag;
    return send_message(h, &m, timeout_ns);
}

/* send_pieces(tag, timeout_ns, address, length, address, length ...): the caller keeps the memory alive */
static PyObject *Handle_send_pieces(Handle *h, Args a, Py_ssize_t n)
{
    Sending m;
    int64_t tag, timeout_ns, *pieces;
    PyObject *r = NULL;
    Py_ssize_t i;
    if (!arity("send_pieces", n, 4, 1 << 20) || !int_arg(a[0], &tag) || !int_arg(a[1], &timeout_ns)) return NULL;
    pieces = (int64_t *)malloc((size_t)n * sizeof *pieces);
    if (!pieces) return PyErr_NoMemory();
    memset(&m, 0, sizeof m);
    m.tag = (uint32_t)tag;
    m.pieces = pieces;
    m.n_pieces = (n - 2) / 2 * 2;
    for (i = 0; i < m.n_pieces && int_arg(a[2 + i], &pieces[i]); i++)
        if (i & 1) m.len += (size_t)pieces[i];
    if (i == m.n_pieces) r = send_message(h, &m, timeout_ns);
    free(pieces);
    return r;
}

/* send_many([(tag, bytes), ...], timeout_ns) */
static PyObject *Handle_send_many(Handle *h, Args a, Py_ssize_t n)
{
    int64_t timeout_ns;
    shmipc_item *items;
    Py_ssize_t i, count;
    PyObject *r = NULL;
    if (!arity("send_many", n, 2, 2) || !int_arg(a[1], &timeout_ns)) return NULL;
    count = PyList_Size(a[0]);
    if (count <= 0) return count ? NULL : PyLong_FromLong(0);
    items = (shmipc_item *)malloc((size_t)count * sizeof *items);
    if (!items) return PyErr_NoMemory();
    for (i = 0; i < count && batch_item(a[0], i, &items[i]);) i++;
    if (i == count) r = send_batch(h, items, (uint32_t)count, timeout_ns);
    free(items);
    return r;
}

/* recv(timeout_ns, view) */
static PyObject *Handle_recv(Handle *h, Args a, Py_ssize_t n)
{
    int64_t timeout_ns, view = 0;
    if (!arity("recv", n, 1, 2) || !int_arg(a[0], &timeout_ns) || (n == 2 && !int_arg(a[1], &view))) return NULL;
    return recv_message(h, timeout_ns, view != 0);
}

/* recv_many(count, timeout_ns) */
static PyObject *Handle_recv_many(Handle *h, Args a, Py_ssize_t n)
{
    int64_t count, timeout_ns;
    if (!arity("recv_many", n, 2, 2) || !int_arg(a[0], &count) || !int_arg(a[1], &timeout_ns)) return NULL;
    return recv_messages(h, (Py_ssize_t)count, timeout_ns);
}

/* recv_into(address, capacity, timeout_ns) */
static PyObject *Handle_recv_into(Handle *h, Args a, Py_ssize_t n)
{
    int64_t at, cap, timeout_ns;
    if (!arity("recv_into", n, 3, 3) || !int_arg(a[0], &at) || !int_arg(a[1], &cap) || !int_arg(a[2], &timeout_ns)) {
        return NULL;
    }
    return recv_into(h, (void *)(intptr_t)at, (size_t)cap, timeout_ns);
}

/* release(view, hand_on=0): ends a view, also of a closed socket; never raises, so that finalizers may call it. */
static PyObject *Handle_release(Handle *h, Args a, Py_ssize_t n)
{
    int64_t at, hand_on = 0;
    int rc = SHMIPC_OK;
    shmipc_msg *m;
    if (!arity("release", n, 1, 2) || !int_arg(a[0], &at) || (n == 2 && !int_arg(a[1], &hand_on))) return NULL;
    m = (shmipc_msg *)(intptr_t)at;
    if (!h->forked) {
        if (!PyThread_acquire_lock(h->lock, NOWAIT_LOCK)) {
            __atomic_fetch_add(&h->waiting, 1, __ATOMIC_RELAXED);
            Py_BEGIN_ALLOW_THREADS
            PyThread_acquire_lock(h->lock, WAIT_LOCK);
            Py_END_ALLOW_THREADS
            __atomic_fetch_sub(&h->waiting, 1, __ATOMIC_RELAXED);
        }
        rc = hand_on ? shmipc_reject(m) : shmipc_release(m);
        leave(h);
    }
    free(m);
    return PyLong_FromLong(rc);
}

/* enter() gives the address of the socket, for calls through cffi; leave() must follow. */
static PyObject *Handle_enter(Handle *h, Args a, Py_ssize_t n)
{
    (void)a, (void)n;
    if (!enter(h, "the call")) return NULL;
    return PyLong_FromVoidPtr(h->socket);
}

static PyObject *Handle_leave(Handle *h, Args a, Py_ssize_t n)
{
    (void)a, (void)n;
    leave(h);
    Py_RETURN_NONE;
}

/* Waits for the piece of a wait that another thread is in. False: it was closed already. */
static PyObject *Handle_close(Handle *h, Args a, Py_ssize_t n)
{
    (void)a, (void)n;
    if (!h->socket) Py_RETURN_FALSE;
    if (h->forked) { /* the child may give back its mapping; the lock may be held by a thread that is not here */
        shmipc_close(&h->socket);
        Py_RETURN_TRUE;
    }
    if (!enter(h, "close")) {
        if (h->socket) return NULL;
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    shmipc_close(&h->socket);
    h->socket = NULL;
    leave(h);
    Py_RETURN_TRUE;
}

/* For os.register_at_fork, in the child. */
static PyObject *Handle_forked(Handle *h, Args a, Py_ssize_t n)
{
    (void)a, (void)n;
    h->forked = 1;
    Py_RETURN_NONE;
}

/* attach(address of the socket) */
static PyObject *Handle_attach(Handle *h, Args a, Py_ssize_t n)
{
    int64_t socket;
    if (!arity("attach", n, 1, 1) || !int_arg(a[0], &socket)) return NULL;
    h->socket = (shmipc_socket *)(intptr_t)socket;
    Py_RETURN_NONE;
}

/* What goes into a config as stop and stop_arg: (address of the function, address of this Handle). */
static PyObject *Handle_stop(Handle *h, Args a, Py_ssize_t n)
{
    (void)a, (void)n;
    return Py_BuildValue("(KK)", (unsigned long long)(uintptr_t)shmipc_python_stop, (unsigned long long)(uintptr_t)h);
}

/* aead(bytes of 32): what goes into a config's shmipc_aead: (seal, open, arg). */
static PyObject *Handle_aead(Handle *h, Args a, Py_ssize_t n)
{
    char *key;
    Py_ssize_t len;
    if (!arity("aead", n, 1, 1) || PyBytes_AsStringAndSize(a[0], &key, &len)) return NULL;
    if (len != (Py_ssize_t)sizeof h->key) return PyErr_SetString(PyExc_ValueError, "the key must have 32 bytes"), NULL;
    memcpy(h->key, key, sizeof h->key);
    return Py_BuildValue("(KKK)", (unsigned long long)(uintptr_t)seal_payload,
                         (unsigned long long)(uintptr_t)open_payload, (unsigned long long)(uintptr_t)h->key);
}

/* REQ: gives up the request in progress. */
static PyObject *Handle_abandon(Handle *h, Args a, Py_ssize_t n)
{
    int rc;
    (void)a, (void)n;
    if (!enter(h, "request")) return NULL;
    rc = shmipc_abandon(h->socket);
    leave(h);
    if (rc) return fail(h, rc, "request"), NULL;
    Py_RETURN_NONE;
}

static PyObject *Handle_closed(Handle *h, Args a, Py_ssize_t n)
{
    (void)a, (void)n;
    return PyBool_FromLong(h->socket == NULL);
}

#if defined(METH_FASTCALL) && (!defined(Py_LIMITED_API) || Py_LIMITED_API + 0 >= 0x030a0000)
#define METHOD(f) {#f, (PyCFunction)(void (*)(void))Handle_##f, METH_FASTCALL, NULL}
#define THUNK(f)
#else
enum { MOST_ARGS = 8 };
static PyObject *thunk(PyObject *self, PyObject *args, PyObject *(*f)(Handle *, Args, Py_ssize_t))
{
    PyObject *few[MOST_ARGS], **a = few, *r;
    Py_ssize_t i, n = PyTuple_Size(args);
    if (n > MOST_ARGS) a = (PyObject **)malloc((size_t)n * sizeof *a);
    if (!a) return PyErr_NoMemory();
    for (i = 0; i < n; i++) a[i] = PyTuple_GetItem(args, i);
    r = f((Handle *)self, a, n);
    if (a != few) free(a);
    return r;
}
#define METHOD(f) {#f, Handle_tuple_##f, METH_VARARGS, NULL}
#define THUNK(f) \
    static PyObject *Handle_tuple_##f(PyObject *self, PyObject *args) { return thunk(self, args, Handle_##f); }
#endif
THUNK(send)
THUNK(send_pieces)
THUNK(send_many)
THUNK(recv)
THUNK(recv_many)
THUNK(recv_into)
THUNK(release)
THUNK(enter)
THUNK(leave)
THUNK(close)
THUNK(forked)
THUNK(attach)
THUNK(aead)
THUNK(stop)
THUNK(abandon)
THUNK(closed)

static PyMethodDef Handle_methods[] = {
    METHOD(send),  METHOD(send_pieces), METHOD(send_many), METHOD(recv),    METHOD(recv_many), METHOD(recv_into),
    METHOD(release), METHOD(enter),     METHOD(leave),     METHOD(close),   METHOD(forked),    METHOD(attach),
    METHOD(stop),  METHOD(aead),        METHOD(abandon),   METHOD(closed),  {NULL, NULL, 0, NULL}};

/* Handle(address of the context, function that raises, identity of the main thread); attach gives it its socket. */
static PyObject *Handle_new(PyTypeObject *type, PyObject *args, PyObject *kw)
{
    unsigned long long ctx;
    unsigned long main_thread;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *raises;
    Handle *h;
    (void)kw;
    if (!PyArg_ParseTuple(args, "KOk:Handle", &ctx, &raises, &main_thread)) return NULL;
    h = (Handle *)alloc(type, 0);
    if (!h) return NULL;
    h->lock = PyThread_allocate_lock();
    if (!h->lock) return Py_DECREF(h), PyErr_NoMemory();
    h->main_thread = main_thread;
    h->ctx = (shmipc_ctx *)(uintptr_t)ctx;
    Py_INCREF(raises);
    h->fail = raises;
    return (PyObject *)h;
}

/* Nobody uses it any more; views keep the Handle. A socket that was not closed is closed here. */
static void Handle_dealloc(PyObject *self)
{
    Handle *h = (Handle *)self;
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    if (h->socket) shmipc_close(&h->socket);
    if (h->lock) PyThread_free_lock(h->lock);
    shmipc_crypto_wipe(h->key, sizeof h->key);
    Py_XDECREF(h->fail);
    release(self);
    Py_DECREF(type);
}

static PyType_Slot Handle_slots[] = {{Py_tp_new, (void *)Handle_new},
                                     {Py_tp_dealloc, (void *)Handle_dealloc},
                                     {Py_tp_methods, Handle_methods},
                                     {0, NULL}};
static PyType_Spec Handle_spec = {"shmipc._handle.Handle", sizeof(Handle), 0, Py_TPFLAGS_DEFAULT, Handle_slots};
static struct PyModuleDef handle_module = {PyModuleDef_HEAD_INIT, "shmipc._handle", NULL, -1, NULL, NULL, NULL, NULL,
                                           NULL};

PyMODINIT_FUNC PyInit__handle(void);
PyMODINIT_FUNC PyInit__handle(void)
{
    PyObject *module = PyModule_Create(&handle_module), *type;
    if (!module) return NULL;
    type = PyType_FromSpec(&Handle_spec);
    if (type && PyModule_AddObject(module, "Handle", type) == 0) return module;
    Py_XDECREF(type);
    Py_DECREF(module);
    return NULL;
}
