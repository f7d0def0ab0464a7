/* bench/sockets/aeron/AeronPeer.java - Aeron over ipc, in the loops of ../exchange.cc written again in Java
 *
 *     java AeronPeer near|far AERON_DIR CONTROL_FILE
 *
 * The near one hosts the media driver. Each line of standard input is a run, each answered with a line:
 *     KIND FORM SIZE DEPTH MS SUBSCRIBERS STREAM     ->     samples p50 p99 p99.9 max rate lost wrong
 * Control file, mapped by both: 0 primed, 64 seen, 128 stop, 192 done, 256 ... when each message was sent.
 */
import io.aeron.Aeron;
import io.aeron.ExclusivePublication;
import io.aeron.FragmentAssembler;
import io.aeron.Subscription;
import io.aeron.driver.MediaDriver;
import io.aeron.driver.ThreadingMode;
import io.aeron.logbuffer.FragmentHandler;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.agrona.DirectBuffer;
import org.agrona.concurrent.BackoffIdleStrategy;
import org.agrona.concurrent.IdleStrategy;
import org.agrona.concurrent.UnsafeBuffer;

public final class AeronPeer {
    static final int PRIMED = 0, SEEN = 64, STOP = 128, DONE = 192, SENT = 256, SLOTS = 1024, BURST = 32;
    static final long KEY = 0x9E3779B97F4A7C15L, INVERSE = inverse(), LAST = -1, FOREVER = 3600L * 1000 * 1000 * 1000;

    static boolean near;
    static Aeron aeron;
    static UnsafeBuffer control;
    static int size, words, depth, subscribers;
    static boolean sleeps, pages;
    static double runNs;
    static UnsafeBuffer out, in;
    static int got; /* bytes in `in`, 0: nothing new */
    static long wrong;
    static ExclusivePublication publication;
    static Subscription[] subscriptions;
    static FragmentHandler handler;
    static IdleStrategy idle;
    static final SplittableRandom random = new SplittableRandom(88172645463325252L);

    /* ---- samples ---------------------------------------------------------------------------------------------- */

    static final int MOST = 1 << 17;
    static final long[] samples = new long[MOST];
    static int taken;
    static long begun, end, seen;
    static boolean warm;

    static void sample() {
        taken = 0;
        seen = 0;
        warm = false;
        begun = System.nanoTime();
        end = Long.MAX_VALUE;
    }

    static void add(long now, long ns, long messages) {
        seen += messages;
        if (!warm) {
            warm = now - begun >= (size > 1024 ? Math.max(runNs, 1.5e9) : runNs) || (now - begun >= runNs / 8 && seen > depth + depth / 8 + 8);
            if (warm) end = now + (long) runNs;
            return;
        }
        if (taken < MOST) samples[taken++] = ns;
    }

    static double quantile(double q) {
        return taken == 0 ? 0 : samples[(int) (q * (taken - 1))];
    }

    static String told(double unit, double rate, double lost) {
        Arrays.sort(samples, 0, taken);
        return taken + " " + quantile(0.5) * unit + " " + quantile(0.99) * unit + " " + quantile(0.999) * unit + " "
            + quantile(1) * unit + " " + rate + " " + lost + " " + wrong;
    }

    /* ---- stamps ----------------------------------------------------------------------------------------------- */

    static long inverse() {
        long x = KEY;
        for (int i = 0; i < 6; i++) x *= 2 - KEY * x;
        return x;
    }

    static void put(long seq) {
        int step = pages ? 512 : 1;
        long base = seq * KEY;
        for (int i = 0; i < words; i += step) out.putLong(i * 8, base + i);
    }

    static boolean right(long seq) {
        int step = pages ? 512 : 1;
        long base = seq * KEY, bad = got - size;
        for (int i = 0; i < words; i += step) bad |= in.getLong(i * 8) ^ (base + i);
        return bad == 0;
    }

    static void check(long seq) {
        if (!right(seq)) wrong++;
    }

    static long first() {
        return in.getLong(0);
    }

    static long number() {
        return first() * INVERSE;
    }

    /* ---- sending and receiving ---------------------------------------------------------------------------------- */

    static void send() {
        idle.reset();
        while (publication.offer(out, 0, size) < 0) {
            if (sleeps) idle.idle();
        }
    }

    static boolean poll(Subscription s) {
        got = 0;
        while (s.poll(handler, 1) > 0) {
            if (got > 0) return true;
        }
        return false;
    }

    static void receive() {
        idle.reset();
        while (!poll(subscriptions[0])) {
            if (sleeps) idle.idle();
        }
    }

    static void copyOut(DirectBuffer buffer, int offset, int length) {
        if (length <= 128) { /* copyMemory takes longer than these */
            for (int i = 0; i < length; i += 8) in.putLong(i, buffer.getLong(offset + i));
        } else {
            buffer.getBytes(offset, in, 0, length);
        }
        got = length;
    }

    static void open(int kind, int stream) {
        boolean echo = kind == 0;
        int term = size <= 65536 ? 4 : size <= 1 << 20 ? 16 : 128;
        String channel = "aeron:ipc?term-length=" + term + "m|mtu=" + (size <= 1024 ? 1408 : 65504);
        publication = echo || near ? aeron.addExclusivePublication(channel, stream + (near ? 0 : 1)) : null;
        int count = near ? echo ? 1 : 0 : kind >= 5 && kind <= 6 ? subscribers : 1;
        subscriptions = new Subscription[count];
        for (int i = 0; i < count; i++) subscriptions[i] = aeron.addSubscription("aeron:ipc", stream + (near ? 1 : 0));
        handler = (buffer, offset, length, header) -> copyOut(buffer, offset, length);
        /* Larger ones come in pieces; the assembler's copy is then one more. */
        if (size > 1024) handler = new FragmentAssembler(handler, size);
        while (publication != null && !publication.isConnected()) Thread.onSpinWait();
        for (Subscription s : subscriptions)
            while (!s.isConnected()) Thread.onSpinWait();
    }

    static void close() {
        if (publication != null) publication.close();
        for (Subscription s : subscriptions) s.close();
    }

    static boolean raised(int flag) {
        return control.getLongVolatile(flag) != 0;
    }

    static void raise(int flag) {
        control.putLongOrdered(flag, 1);
    }

    static void pause(double ns) {
        long until = System.nanoTime() + (long) (ns * (0.5 + random.nextDouble()));
        while (System.nanoTime() < until) Thread.onSpinWait();
    }

    static void prime() throws InterruptedException {
        put(0);
        while (!raised(PRIMED)) {
            send();
            for (int i = 0; i < 20 && !raised(PRIMED); i++) Thread.sleep(0, 100000);
        }
    }

    static void sendLast() throws InterruptedException {
        out.putLong(0, LAST);
        while (!raised(DONE)) {
            send();
            for (int i = 0; i < 100 && !raised(DONE); i++) Thread.sleep(0, 200000);
        }
    }

    /* ---- the loops ---------------------------------------------------------------------------------------------- */

    static String ask() {
        long last = 0;
        for (long seq = 1; seq == 1 || last < end; seq++) {
            put(seq);
            send();
            receive();
            check(~seq);
            long now = System.nanoTime();
            if (seq == 1) sample();
            else add(now, now - last, 1);
            last = now;
        }
        out.putLong(0, LAST);
        send();
        receive();
        return told(1, 0, 0);
    }

    static String answer() {
        for (long seq = 1;; seq++) {
            receive();
            boolean over = first() == LAST;
            if (!over) check(seq);
            put(~seq);
            send();
            if (over) return told(1, 0, 0);
        }
    }

    static String tell() throws InterruptedException {
        prime();
        for (long seq = 1; !raised(STOP); seq++) {
            put(seq);
            pause(300);
            control.putLong(SENT + (int) (seq % SLOTS) * 8, System.nanoTime());
            send();
            while (control.getLongVolatile(SEEN) != seq) Thread.onSpinWait();
        }
        sendLast();
        return told(1, 0, 0);
    }

    static String hear() {
        boolean started = false;
        for (;;) {
            receive();
            long now = System.nanoTime(), seq = number();
            if (first() == LAST) break;
            if (seq == 0) {
                raise(PRIMED);
                continue;
            }
            if (!started) sample();
            started = true;
            check(seq);
            add(now, now - control.getLong(SENT + (int) (seq % SLOTS) * 8), 1);
            if (now > end && taken > 0) raise(STOP);
            control.putLongOrdered(SEEN, seq);
        }
        raise(DONE);
        return told(1, 0, 0);
    }

    static String pour() throws InterruptedException {
        prime();
        for (long seq = 1; !raised(STOP);) {
            for (int i = 0; i < (words <= 128 ? 64 : 1); i++) {
                put(seq++);
                send();
            }
        }
        sendLast();
        return told(1, 0, 0);
    }

    static boolean over, started;
    static long expect, count, lastWindow;

    static void gatherOne(int window) {
        if (first() == LAST) over = true;
        if (first() == 0) raise(PRIMED);
        if (over || first() == 0) return;
        if (!started) sample();
        started = true;
        check(expect++);
        if (++count % window != 0) return;
        long now = System.nanoTime();
        if (lastWindow != 0) add(now, now - lastWindow, window);
        lastWindow = now;
        if (now > end && taken > 1) raise(STOP);
    }

    /* As the library is meant to be used: many fragments with one poll. */
    static String gather() {
        final int window = size <= 1024 ? 4096 : size <= 65536 ? 64 : size <= 1 << 20 ? 8 : 2;
        FragmentHandler each = (buffer, offset, length, header) -> {
            copyOut(buffer, offset, length);
            gatherOne(window);
        };
        if (size > 1024) each = new FragmentAssembler(each, size);
        over = started = false;
        expect = 1;
        count = lastWindow = 0;
        idle.reset();
        while (!over) {
            int fragments = subscriptions[0].poll(each, 64);
            if (sleeps) idle.idle(fragments);
        }
        raise(DONE);
        Arrays.sort(samples, 0, taken);
        return told(1, window * 1e9 / Math.max(1, quantile(0.5)), 0);
    }

    static String publish(boolean delivered) throws InterruptedException {
        long seq = 0;
        prime();
        sample();
        for (long first = 0; first < end;) {
            pause(500);
            first = System.nanoTime();
            for (int i = 0; i < BURST; i++) {
                put(++seq);
                send();
            }
            long then = System.nanoTime();
            while (control.getLongVolatile(SEEN) < seq) Thread.onSpinWait();
            add(first, (delivered ? System.nanoTime() : then) - first, BURST);
        }
        String r = told(1.0 / BURST, 0, 0);
        sendLast();
        return r;
    }

    static String subscribe() {
        long[] newest = new long[subscribers];
        boolean[] heard = new boolean[subscribers];
        for (boolean over = false; !over;) {
            long least = Long.MAX_VALUE;
            boolean all = true;
            for (int i = 0; i < subscribers; i++) {
                while (!over && poll(subscriptions[i])) {
                    heard[i] = true;
                    over = first() == LAST;
                    if (over) break;
                    if (number() < newest[i]) wrong++;
                    check(number());
                    newest[i] = number();
                }
                all = all && heard[i];
                least = Math.min(least, newest[i]);
            }
            if (all && !raised(PRIMED)) raise(PRIMED);
            if (least > control.getLong(SEEN)) control.putLongOrdered(SEEN, least);
        }
        raise(DONE);
        return told(1, 0, 0);
    }

    static String sayNothing() throws InterruptedException {
        prime();
        Thread.sleep((long) (runNs / 1e6));
        sendLast();
        return told(1, 0, 0);
    }

    static String waitIdly() {
        do {
            receive();
            raise(PRIMED);
        } while (first() != LAST);
        raise(DONE);
        taken = 1;
        return told(1, 0, 0);
    }

    static String run(String line) throws InterruptedException {
        String[] w = line.trim().split(" ");
        int kind = Integer.parseInt(w[0]);
        sleeps = Integer.parseInt(w[1]) != 1;
        size = Integer.parseInt(w[2]);
        depth = Integer.parseInt(w[3]);
        runNs = Double.parseDouble(w[4]) * 1e6;
        subscribers = Integer.parseInt(w[5]);
        words = size / 8;
        pages = kind == 3;
        wrong = 0;
        taken = 0;
        idle = new BackoffIdleStrategy();
        out = new UnsafeBuffer(ByteBuffer.allocateDirect(size));
        in = new UnsafeBuffer(ByteBuffer.allocateDirect(size));
        open(kind, Integer.parseInt(w[6]));
        try {
            switch (kind) {
                case 0: return near ? ask() : answer();
                case 1: return near ? tell() : hear();
                case 2: case 3: return near ? pour() : gather();
                case 5: case 6: return near ? publish(kind == 6) : subscribe();
                default: return near ? sayNothing() : waitIdly();
            }
        } finally {
            close();
        }
    }

    /* Stopped between runs for as long as the others take: nobody must be taken for dead. */
    static MediaDriver driver(String dir) {
        return MediaDriver.launch(new MediaDriver.Context().aeronDirectoryName(dir).dirDeleteOnStart(true)
            .dirDeleteOnShutdown(true).threadingMode(ThreadingMode.SHARED).clientLivenessTimeoutNs(FOREVER)
            .publicationUnblockTimeoutNs(2 * FOREVER).ipcTermBufferLength(4 << 20).publicationLingerTimeoutNs(1000000));
    }

    static void serve(String dir) {
        if (near) driver(dir);
        aeron = Aeron.connect(new Aeron.Context().aeronDirectoryName(dir).driverTimeoutMs(FOREVER / 1000000));
        System.out.println("ready");
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(System.in))) {
            for (String line; (line = lines.readLine()) != null;) System.out.println(run(line));
        } catch (Exception e) {
            e.printStackTrace();
        }
        System.exit(0);
    }

    public static void main(String[] args) throws Exception {
        near = args[0].equals("near");
        try (RandomAccessFile f = new RandomAccessFile(args[2], "rw")) {
            control = new UnsafeBuffer(f.getChannel().map(FileChannel.MapMode.READ_WRITE, 0, 65536));
        }
        Thread t = new Thread(() -> serve(args[1]), "bench");
        t.start();
    }
}
