/* bench/sockets/aeron.cc - Aeron, its Java artefact: two Java processes that run the same loops (aeron/AeronPeer.java)
 *
 * Started at the first run, then stopped (SIGSTOP) except while they are measured. The near one hosts the media driver.
 * Both are told each run by a line and answer with a line; their thread that measures is pinned, all else floats.
 */
#include "sockets.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>

namespace {

const size_t control_bytes = 65536;
const int stopped_ms = 10000;

struct java {
    pid_t pid;
    int to, from;
    char line[512];
    size_t have;
};

java sides[2];
bool started, broken;
char aeron_dir[64], control_path[64], *control;
int stream = 1000, warmed;

const char *directory() { return "build/bench/sockets.aeron"; }

bool start_side(java *j, const char *side)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) return false;
    j->pid = fork();
    if (j->pid < 0) return false;
    if (j->pid == 0) {
        char path[128];
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(in[0], 0);
        dup2(out[1], 1);
        if (!getenv("BENCH_TRACE")) dup2(open("/dev/null", O_WRONLY), 2);
        snprintf(path, sizeof path, "%s/aeron-all.jar:%s", directory(), directory());
        execlp("java", "java", "--add-opens", "java.base/sun.nio.ch=ALL-UNNAMED", "--add-opens",
               "java.base/jdk.internal.misc=ALL-UNNAMED", "-Dagrona.disable.bounds.checks=true", "-XX:+UseSerialGC",
               "-XX:TieredStopAtLevel=4", "-Xmx512m", "-cp", path, "AeronPeer", side, aeron_dir, control_path,
               static_cast<char *>(NULL));
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    j->to = in[1], j->from = out[0], j->have = 0;
    return true;
}

/* The next line that the side says, or NULL if it does not within the time. */
const char *read_line(java *j, double limit_ms)
{
    double until = bench_monotonic_ns() + limit_ms * 1e6;
    static char line[512];
    for (;;) {
        char *nl = static_cast<char *>(memchr(j->line, '\n', j->have));
        if (nl) {
            size_t len = static_cast<size_t>(nl - j->line);
            memcpy(line, j->line, len);
            line[len] = 0;
            j->have -= len + 1;
            memmove(j->line, nl + 1, j->have);
            return line;
        }
        struct pollfd p = {j->from, POLLIN, 0};
        double left = (until - bench_monotonic_ns()) / 1e6;
        if (left <= 0 || j->have == sizeof j->line || poll(&p, 1, static_cast<int>(left) + 1) <= 0) return NULL;
        ssize_t n = read(j->from, j->line + j->have, sizeof j->line - j->have);
        if (n <= 0) return NULL;
        j->have += static_cast<size_t>(n);
    }
}

void pin_thread(pid_t pid, const char *name, unsigned cpu)
{
    char path[64], comm[64];
    snprintf(path, sizeof path, "/proc/%d/task", static_cast<int>(pid));
    DIR *d = opendir(path);
    while (struct dirent *e = d ? readdir(d) : NULL) {
        char file[400];
        snprintf(file, sizeof file, "%s/%s/comm", path, e->d_name);
        FILE *f = fopen(file, "r");
        if (f && fgets(comm, sizeof comm, f) && !strncmp(comm, name, strlen(name)) && comm[strlen(name)] == '\n') {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(cpu, &set);
            sched_setaffinity(atoi(e->d_name), sizeof set, &set);
        }
        if (f) fclose(f);
    }
    if (d) closedir(d);
}

void signal_both(int sig)
{
    for (java &j : sides)
        if (j.pid > 0) kill(j.pid, sig);
}

bool start_both()
{
    unsigned cpus[2];
    static const char *const names[2] = {"near", "far"};
    snprintf(aeron_dir, sizeof aeron_dir, "/dev/shm/shmipc-bench-%d-aeron", static_cast<int>(getpid()));
    snprintf(control_path, sizeof control_path, "/dev/shm/shmipc-bench-%d-control", static_cast<int>(getpid()));
    int fd = open(control_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, control_bytes) || bench_two_cpus(cpus)) return false;
    control = static_cast<char *>(mmap(NULL, control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    close(fd);
    if (control == MAP_FAILED) return false;
    for (int i = 0; i < 2; i++) {
        if (!start_side(&sides[i], names[i])) return false;
        const char *said = read_line(&sides[i], 20000);
        if (!said || strcmp(said, "ready")) return false;
        pin_thread(sides[i].pid, "bench", cpus[i]);
    }
    started = true;
    return true;
}

void end_side(java *j)
{
    if (j->pid <= 0) return;
    kill(j->pid, SIGKILL);
    waitpid(j->pid, NULL, 0);
    close(j->to);
    close(j->from);
    j->pid = 0;
}

bool tell(java *j, const char *line)
{
    size_t len = strlen(line);
    return write(j->to, line, len) == static_cast<ssize_t>(len);
}

/* What a side measured, or what it saw wrong; false: it did not answer. */
bool hear(java *j, result *r, double *wrong, double limit_ms)
{
    const char *line = read_line(j, limit_ms);
    double n;
    memset(r, 0, sizeof *r);
    if (!line || sscanf(line, "%lf %lf %lf %lf %lf %lf %lf %lf", &n, &r->p50, &r->p99, &r->p999, &r->most, &r->per_s,
                        &r->lost, wrong) != 8)
        return false;
    r->samples = static_cast<size_t>(n);
    return true;
}

double cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec t = {0, 0};
    if (clock_getcpuclockid(pid, &clock) == 0) clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

/* Share of a CPU that the far side uses while it waits: from a little after its first message came, until shortly
 * before the last. Java itself tells its CPU time in hundredths of a second. */
double watch_idle(double ms)
{
    for (int i = 0; i < 5000 && !__atomic_load_n(reinterpret_cast<uint64_t *>(control), __ATOMIC_ACQUIRE); i++)
        usleep(1000);
    usleep(static_cast<useconds_t>(ms * 100));
    double at = bench_monotonic_ns(), cpu = cpu_ns(sides[FAR].pid);
    usleep(static_cast<useconds_t>(ms * 700));
    return (cpu_ns(sides[FAR].pid) - cpu) / (bench_monotonic_ns() - at);
}

result run_once(const spec &s, int kind, double ms)
{
    char line[128];
    result r[2];
    double wrong[2] = {0, 0};
    memset(control, 0, control_bytes);
    snprintf(line, sizeof line, "%d %d %zu %zu %.3f %u %d\n", kind, s.form, s.size, s.depth, ms, s.subscribers, stream);
    stream += 2;
    memset(r, 0, sizeof r);
    signal_both(SIGCONT);
    bool ok = tell(&sides[FAR], line) && tell(&sides[NEAR], line);
    double cpu = ok && kind == IDLE ? watch_idle(ms) : 0;
    ok = ok && hear(&sides[NEAR], &r[NEAR], &wrong[NEAR], ms * 2 + stopped_ms) &&
         hear(&sides[FAR], &r[FAR], &wrong[FAR], ms + stopped_ms);
    signal_both(SIGSTOP);
    result best = r[r[NEAR].samples ? NEAR : FAR];
    best.cpu = cpu;
    best.good = ok && wrong[0] + wrong[1] == 0;
    if (ok && !best.good) fprintf(stderr, "bench: aeron: wrong messages\n");
    broken = broken || !ok;
    return best;
}

/* The first run of each kind is for the compiler. */
result aeron_run(const spec &s, int kind, double ms)
{
    result none;
    memset(&none, 0, sizeof none);
    if (!started && !start_both()) broken = true;
    if (broken) return none;
    if (!(warmed & 1 << (kind * 2 + (s.form == POLL)))) {
        spec small = s;
        warmed |= 1 << (kind * 2 + (s.form == POLL));
        if (small.size > 1024) small.size = 64, small.depth = 1024;
        if (kind != IDLE) run_once(small, kind, 600);
    }
    return broken ? none : run_once(s, kind, ms);
}

} // namespace

void aeron_end()
{
    for (java &j : sides) end_side(&j);
}

size_t aeron_peers(peer *out)
{
    out[0] = make_peer("aeron", "Java", POLL | DEFAULT, ECHO | STREAM | BATCH | FANOUT, any_size, NULL);
    out[0].sleeps_by_default = false;
    out[0].outside = aeron_run;
    char path[128];
    snprintf(path, sizeof path, "%s/AeronPeer.class", directory());
    if (access(path, R_OK)) out[0] = absent("aeron", "not built (needs a JDK and mvn)");
    return 1;
}
