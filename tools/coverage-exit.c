/* Linked into the coverage programs with --wrap=_exit: a forked process that ends by _exit() saves its counts too. */
void __gcov_dump(void);
void __real__exit(int status);
void __wrap__exit(int status);

void __wrap__exit(int status)
{
    __gcov_dump();
    __real__exit(status);
}
