/* strict.h - run a function where every system call but read, write and exit is death.
 *
 *     static void hot(void *arg) { ... }
 *     CHECK_EQ(strict_run(hot, arg), 0);
 *
 * The child enters SECCOMP_MODE_STRICT, in which the kernel answers any other system call with SIGKILL. Touch the
 * memory before: page faults are no system calls, but lazy binding and allocation may make some.
 */
#ifndef SHMIPC_STRICT_H
#define SHMIPC_STRICT_H

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* 0: fn() returned having made no system call; 1: it made one; -1: strict mode cannot be had here. */
static inline int strict_run(void (*fn)(void *arg), void *arg)
{
    int status;
    pid_t pid = fork();
    if (pid < 0) return -1;
    if (pid == 0) {
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) _exit(2);
        fn(arg);
        syscall(SYS_exit, 0); /* exit_group, which _exit uses, is not among the allowed */
    }
    if (waitpid(pid, &status, 0) != pid) return -1;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) return -1;
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif /* SHMIPC_STRICT_H */
