/* fuzz_segment.c - damaged images of registries and segments: error codes, never an access outside, a loop or an abort.
 *
 *     fuzz_segment [images [seed]]    default 100000 images; every 16th goes through files and the public calls
 *
 * Judging functions get each image in heap memory of exactly its size, so that AddressSanitizer sees one byte too many.
 * With libFuzzer (-DFUZZ_LIBFUZZER -fsanitize=fuzzer) the input is the image. Statements: I3, I9.
 */
#define SHMIPC_IMPLEMENTATION
#define SHMIPC_STATIC
#include "../../shmipc.h"

#define BYTES (3 * 4096)

static char dir[64];
static unsigned char good_registry[BYTES], good_segment[BYTES];
static size_t registry_bytes, segment_bytes;
static char segment_file[256];
static uint64_t state, answers[64];

static uint64_t rnd(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void fail(const char *what)
{
    fprintf(stderr, "fuzz_segment: %s\n", what);
    exit(1);
}

/* Every result is 0, positive, or a code that we know. */
static int told(int rc)
{
    if (rc < -63 || strcmp(shmipc_strerror(rc), "unknown code") == 0) {
        if (rc < 0) fail("a result that is no code");
    }
    if (rc <= 0) answers[-rc]++;
    return rc;
}

static size_t get(const char *file, unsigned char *to)
{
    char path[400];
    long n;
    int fd;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    fd = open(path, O_RDONLY);
    n = fd < 0 ? -1 : (long)read(fd, to, BYTES);
    close(fd);
    if (n <= 0) fail("cannot read what was made");
    return (size_t)n;
}
static void put(const char *file, const unsigned char *from, size_t n)
{
    char path[400];
    int fd;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    (void)unlink(path); /* a file of its own: nobody has it mapped */
    fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    if (fd < 0 || write(fd, from, n) != (long)n) fail("cannot write an image");
    close(fd);
}
static void wipe(void)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) (void)unlinkat(dirfd(d), e->d_name, 0);
    }
    if (d) closedir(d);
}

static shmipc_ctx *scope(void)
{
    shmipc_ctx_config cfg;
    shmipc_ctx *c = NULL;
    shmipc_ctx_config_init(&cfg);
    cfg.dir = dir;
    (void)told(shmipc_ctx_open(&c, &cfg));
    return c;
}

static void begin(void)
{
    shmipc_segment_config cfg;
    shmipc_segment *s;
    shmipc_ctx *c;
    strcpy(dir, "/dev/shm/shmipc-fuzz-XXXXXX");
    if (!mkdtemp(dir)) fail("cannot make a directory");
    c = scope();
    shmipc_segment_config_init(&cfg);
    cfg.mode = SHMIPC_CREATE;
    cfg.size = 500;
    cfg.max_size = 9000;
    cfg.capacity = 8;
    cfg.params = "options";
    cfg.params_len = 7;
    if (!c || shmipc_segment_open(c, "fuzz", &cfg, &s)) fail("cannot make a segment");
    strcpy(segment_file, s->path);
    registry_bytes = get("registry", good_registry);
    segment_bytes = get(segment_file, good_segment);
    shmipc_ctx_close(c);
}

/* Random bits, bytes and words, mostly where the fields are, values that sit on edges, and other lengths. */
static size_t damage(unsigned char *image, size_t n, size_t fields)
{
    static const uint64_t edges[] = {0, 1, 2, 255, 256, 4095, 4096, 4097, 0x7fffffff, 0xffffffff, (uint64_t)1 << 62,
                                     ((uint64_t)1 << 62) - 1, INT64_MAX, UINT64_MAX, 0x8000000000000000u};
    int changes = (int)(rnd() % 6) + 1;
    while (changes--) {
        size_t at = rnd() % (rnd() % 4 ? fields : n);
        uint64_t v = rnd() % 2 ? edges[rnd() % (sizeof edges / sizeof *edges)] : rnd();
        switch (rnd() % 4) {
        case 0: image[at] ^= (unsigned char)(1u << rnd() % 8); break;
        case 1: image[at] = (unsigned char)v; break;
        case 2: memcpy(image + (at & ~(size_t)3), &v, 4); break;
        default: memcpy(image + (at & ~(size_t)7), &v, 8); break;
        }
    }
    if (rnd() % 8 == 0) n = rnd() % (n + 1);
    return n;
}

static void judge(const unsigned char *data, size_t n)
{
    shmipc__segment_head head;
    char name[256];
    size_t k = n < SHMIPC__TABLE_AT ? n : SHMIPC__TABLE_AT;
    unsigned char *exact = (unsigned char *)malloc(k ? k : 1);
    shmipc__registry r;
    if (!exact) fail("no memory");
    memcpy(exact, data, k);
    if (told(shmipc__segment_check(exact, n, &head, name)) == SHMIPC_OK) {
        if (head.area > n || head.max_bytes < n || strlen(name) != head.name_len) fail("an image that should not pass");
    }
    memset(&r, 0, sizeof r);
    memcpy(&r, exact, k < sizeof r ? k : sizeof r);
    (void)told(shmipc__registry_check(&r, n));
    free(exact);
}

static void use(void)
{
    static shmipc_segment_info infos[8];
    shmipc_segment_config cfg;
    shmipc_segment *s = NULL;
    shmipc_ctx *c = scope();
    void *p;
    const void *params;
    uint32_t len, i;
    if (!c) return;
    shmipc_segment_config_init(&cfg);
    cfg.mode = (int)(rnd() % 3);
    cfg.size = 100;
    cfg.params = "options";
    cfg.params_len = 7;
    cfg.match_params = rnd() % 2;
    (void)told(shmipc_segment_list(c, infos, 8));
    (void)told(shmipc_segment_inspect(c, "fuzz", infos));
    if (told(shmipc_segment_open(c, "fuzz", &cfg, &s)) == SHMIPC_OK) {
        uint64_t size = shmipc_segment_size(s), at = rnd();
        if (size > 1 << 20) fail("a size beyond the file");
        if (size && told(shmipc_segment_at(s, 0, size, &p)) == 0) memset(p, 1, (size_t)size);
        if (told(shmipc_segment_at(s, at, rnd(), &p)) == 0) fail("an offset beyond the file");
        if (shmipc_segment_params(s, &params, &len) == 0 && len) (void)((const volatile char *)params)[len - 1];
        for (i = 0; i < 9; i++) (void)told(shmipc_segment_alive(s, i));
        (void)told(shmipc_segment_sweep(s));
        (void)told(shmipc_segment_grow(s, 4000));
        shmipc_segment_close(s);
    }
    (void)told(shmipc_ctx_sweep(c, 0));
    if (rnd() % 2) (void)told(shmipc_segment_unlink(c, "fuzz"));
    shmipc_ctx_close(c);
}

static void through_files(const unsigned char *image, size_t n, int is_registry)
{
    put("registry", is_registry ? image : good_registry, is_registry ? n : registry_bytes);
    put(segment_file, is_registry ? good_segment : image, is_registry ? segment_bytes : n);
    use();
    wipe();
}

#ifdef FUZZ_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static unsigned char image[BYTES];
    if (!dir[0]) begin();
    if (n > BYTES) n = BYTES;
    memcpy(image, data, n);
    judge(image, n);
    through_files(image, n, n && data[0] == good_registry[7]);
    return 0;
}
#else
int main(int argc, char **argv)
{
    static unsigned char image[BYTES];
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000, i;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    int code;
    state = seed;
    begin();
    for (i = 0; i < count; i++) {
        int is_registry = (int)(rnd() % 2);
        size_t n = is_registry ? registry_bytes : segment_bytes;
        memcpy(image, is_registry ? good_registry : good_segment, n);
        n = damage(image, n, is_registry ? 192 : 700);
        judge(image, n);
        if (i % 16 == 0) through_files(image, n, is_registry);
    }
    wipe();
    (void)rmdir(dir);
    for (code = 0; code < 64; code++) {
        if (answers[code]) printf("%12lu %s\n", (unsigned long)answers[code], shmipc_strerror(-code));
    }
    printf("fuzz_segment: %lu images, seed %lu\n1 passed, 0 failed\n", count, (unsigned long)seed);
    return 0;
}
#endif
