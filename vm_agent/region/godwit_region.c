/* The guest's side of a migration region: open, allocate, ask for the role. See godwit_region.h.
 * Relies on the mapping being coherent with the host's (devdax or a shared file). */
#include "godwit_region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int refuse(struct godwit_region *region, int error, const char *why)
{
    region->error = why;
    return -error;
}

static uint64_t load_word(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

static uint32_t whole_lines(uint32_t bytes)
{
    return (bytes + GODWIT_LINE_BYTES - 1) / GODWIT_LINE_BYTES * GODWIT_LINE_BYTES;
}

static int class_check(const struct godwit_class_line *line, uint64_t data_bytes, const char **why)
{
    *why = "the header names a slot class whose slots lie outside of the region";
    if (memchr(line->name, 0, sizeof(line->name)) == NULL) {
        *why = "the header names a slot class without an end of its name";
        return -EPROTO;
    }
    if (line->slot_bytes == 0 || line->slot_bytes % GODWIT_LINE_BYTES != 0 ||
        line->offset % GODWIT_LINE_BYTES != 0) {
        *why = "the header names a slot class that is not made of whole 64-byte lines";
        return -EPROTO;
    }
    if (line->rule > GODWIT_APPEND || line->kind > GODWIT_LOG) {
        *why = "the header names a merge rule or a kind of slot this version does not know";
        return -EPROTO;
    }
    if ((line->rule == GODWIT_APPEND) != (line->kind == GODWIT_LOG) ||
        (line->kind == GODWIT_LOG && (line->slot_count < 2 || line->slot_bytes < 2 * GODWIT_LINE_BYTES))) {
        *why = "the header names a log without rule append, or one without room for a record";
        return -EPROTO;
    }
    /* Both factors are 32 bits wide, so the product cannot wrap. */
    uint64_t bytes = (uint64_t)line->slot_bytes * line->slot_count;
    if (line->offset < GODWIT_HEADER_BYTES || line->offset > data_bytes || bytes > data_bytes - line->offset)
        return -EPROTO;
    return 0;
}

int godwit_header_check(const struct godwit_header_page *page, uint64_t length_bytes, const char **why)
{
    const struct godwit_header_line *head = &page->head;
    *why = "the region has no header, or one of another version";
    if (head->magic != GODWIT_REGION_MAGIC || head->version != GODWIT_REGION_VERSION ||
        head->header_bytes != GODWIT_HEADER_BYTES || head->line_bytes != GODWIT_LINE_BYTES)
        return -EPROTO;
    *why = "the header counts more slot classes than there is room for";
    if (head->class_count > GODWIT_CLASSES_MAX)
        return -EPROTO;
    *why = "the header claims more bytes than the region has";
    if (head->data_bytes > length_bytes || head->data_bytes < GODWIT_HEADER_BYTES)
        return -EPROTO;
    for (uint32_t i = 0; i < head->class_count; ++i) {
        int error = class_check(&page->classes[i], head->data_bytes, why);
        if (error)
            return error;
        /* Slots in ascending, disjoint order: a line belongs to one class at most. */
        const struct godwit_class_line *before = i ? &page->classes[i - 1] : NULL;
        if (before &&
            page->classes[i].offset < before->offset + (uint64_t)before->slot_bytes * before->slot_count) {
            *why = "the header's slot classes overlap";
            return -EPROTO;
        }
    }
    return 0;
}

/* What is wrong with a class as an application wrote it, or NULL. */
static const char *spec_check(const struct godwit_class_spec *spec)
{
    if (!spec->name || strlen(spec->name) >= sizeof(((struct godwit_class_line *)0)->name))
        return "a slot class needs a name of at most 23 bytes";
    if (spec->payload_bytes == 0 || spec->payload_bytes > (1u << 30) || spec->slot_count == 0 ||
        spec->slot_count == UINT32_MAX)
        return "a slot class needs slots of 1 byte to 1 GiB";
    if ((unsigned)spec->rule > GODWIT_APPEND || (unsigned)spec->kind > GODWIT_LOG)
        return "a slot class names a merge rule or a kind of slot that does not exist";
    if (spec->kind != GODWIT_FIXED && (spec->rule == GODWIT_ADD_DELTA || spec->rule == GODWIT_MAX))
        return "add-delta and max are rules of fixed classes only";
    if ((spec->kind == GODWIT_LOG) != (spec->rule == GODWIT_APPEND))
        return "append is the rule of logs, and logs have no other";
    return NULL;
}

/* Writes the class lines for `classes` into `lines`; returns the end of the data or a -errno. */
static int64_t lay_out(struct godwit_region *region, struct godwit_class_line *lines,
                       const struct godwit_class_spec *classes, unsigned class_count)
{
    uint64_t offset = GODWIT_HEADER_BYTES;
    if (class_count > GODWIT_CLASSES_MAX)
        return refuse(region, EINVAL, "more slot classes than GODWIT_CLASSES_MAX");
    for (unsigned i = 0; i < class_count; ++i) {
        const struct godwit_class_spec *spec = &classes[i];
        struct godwit_class_line *line = &lines[i];
        memset(line, 0, sizeof(*line));
        const char *why = spec_check(spec);
        if (why)
            return refuse(region, EINVAL, why);
        memcpy(line->name, spec->name, strlen(spec->name));
        line->rule = spec->rule;
        line->kind = spec->kind;
        line->slot_bytes =
            whole_lines(spec->payload_bytes) + (spec->kind == GODWIT_FIXED ? 0 : GODWIT_LINE_BYTES);
        line->slot_count = spec->slot_count + (spec->kind == GODWIT_LOG ? 1 : 0);
        line->offset = offset;
        offset += (uint64_t)line->slot_bytes * line->slot_count;
        if (offset > region->length_bytes)
            return refuse(region, ENOSPC, "the slot classes do not fit into the region");
    }
    return (int64_t)offset;
}

/* The role line is the host's: formatting leaves it alone. */
static int format(struct godwit_region *region, const struct godwit_class_spec *classes, unsigned class_count)
{
    int64_t end = lay_out(region, region->page->classes, classes, class_count);
    if (end < 0)
        return (int)end;
    struct godwit_header_line *head = &region->page->head;
    head->version = GODWIT_REGION_VERSION;
    head->header_bytes = GODWIT_HEADER_BYTES;
    head->data_bytes = (uint64_t)end;
    head->class_count = class_count;
    head->line_bytes = GODWIT_LINE_BYTES;
    __atomic_store_n(&head->magic, GODWIT_REGION_MAGIC, __ATOMIC_RELEASE);
    return 0;
}

static int adopt(struct godwit_region *region, const struct godwit_class_spec *classes, unsigned class_count)
{
    struct godwit_class_line wanted[GODWIT_CLASSES_MAX];
    int error = godwit_header_check(region->page, region->length_bytes, &region->error);
    if (error)
        return error;
    int64_t end = lay_out(region, wanted, classes, class_count);
    if (end < 0)
        return (int)end;
    if (region->page->head.class_count != class_count ||
        memcmp(wanted, region->page->classes, class_count * sizeof(wanted[0])) != 0)
        return refuse(region, EEXIST, "the region already holds other slot classes");
    return 0;
}

/* A character device has no size of its own: devdax tells it in sysfs. */
static int64_t size_of(int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return -errno;
    if (!S_ISCHR(status.st_mode))
        return status.st_size;
    char path[64];
    snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/size", major(status.st_rdev), minor(status.st_rdev));
    FILE *file = fopen(path, "re");
    if (!file)
        return -errno;
    long long size = 0;
    int read = fscanf(file, "%lld", &size);
    fclose(file);
    return read == 1 ? size : -EIO;
}

static int map(struct godwit_region *region, const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return refuse(region, errno, "cannot open the region");
    int64_t size = size_of(fd);
    if (size < (int64_t)GODWIT_HEADER_BYTES) {
        close(fd);
        return refuse(region, size < 0 ? (int)-size : ENOSPC, "the region is smaller than its header");
    }
    void *map = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int error = errno;
    close(fd);
    if (map == MAP_FAILED)
        return refuse(region, error, "cannot map the region");
    region->page = map;
    region->length_bytes = (size_t)size;
    return 0;
}

int godwit_region_open(struct godwit_region *region, const char *path,
                       const struct godwit_class_spec *classes, unsigned class_count)
{
    memset(region, 0, sizeof(*region));
    int error = map(region, path);
    if (error)
        return error;
    if (load_word(&region->page->head.magic) == 0)
        error = format(region, classes, class_count);
    else
        error = adopt(region, classes, class_count);
    if (error)
        godwit_region_close(region);
    return error;
}

void godwit_region_close(struct godwit_region *region)
{
    if (region->page)
        munmap(region->page, region->length_bytes);
    region->page = NULL;
}

static uint64_t role_word(const struct godwit_region *region) { return load_word(&region->page->role.word); }

enum godwit_role godwit_region_role(const struct godwit_region *region)
{
    return (enum godwit_role)(role_word(region) & 0xff);
}

uint64_t godwit_region_epoch(const struct godwit_region *region) { return role_word(region) >> 8; }

int godwit_region_say_quiet(struct godwit_region *region)
{
    uint64_t word = role_word(region);
    if ((word & 0xff) != GODWIT_SOURCE)
        return -EPERM;
    /* Released: who reads it sees every write before it. */
    __atomic_store_n(&region->page->quiet.word, word, __ATOMIC_RELEASE);
    return 0;
}

static const struct godwit_class_line *class_of(const struct godwit_region *region, unsigned class_index)
{
    return class_index < region->page->head.class_count ? &region->page->classes[class_index] : NULL;
}

uint64_t godwit_slot_count(const struct godwit_region *region, unsigned class_index)
{
    const struct godwit_class_line *line = class_of(region, class_index);
    if (!line)
        return 0;
    return line->kind == GODWIT_LOG ? line->slot_count - 1 : line->slot_count;
}

static void *slot_at(const struct godwit_region *region, unsigned class_index, uint64_t index)
{
    if (index >= godwit_slot_count(region, class_index))
        return NULL;
    const struct godwit_class_line *line = &region->page->classes[class_index];
    return (char *)region->page + line->offset + index * line->slot_bytes;
}

static struct godwit_slot_line *line_at(const struct godwit_region *region, unsigned class_index,
                                        uint64_t index)
{
    struct godwit_slot_line *line = slot_at(region, class_index, index);
    if (!line || region->page->classes[class_index].kind != GODWIT_ALLOCATED)
        return NULL;
    return line;
}

void *godwit_slot_payload(const struct godwit_region *region, unsigned class_index, uint64_t index)
{
    char *slot = slot_at(region, class_index, index);
    if (!slot || region->page->classes[class_index].kind == GODWIT_LOG)
        return NULL;
    return region->page->classes[class_index].kind == GODWIT_ALLOCATED ? slot + GODWIT_LINE_BYTES : slot;
}

/* Is this index in the half that `word` may allocate from? */
static int in_my_half(uint64_t word, uint64_t index)
{
    switch (word & 0xff) {
    case GODWIT_SOURCE:
        return index % 2 == 0;
    case GODWIT_CLONE:
        return index % 2 == 1;
    default:
        return 1;
    }
}

/* Claims a free slot, or leaves it exactly as it was. The role word is read again after the claim:
 * a fork in between would let both sides finish the same claim. */
static int claim(struct godwit_region *region, struct godwit_slot_line *line, uint64_t word)
{
    uint64_t expected = GODWIT_SLOT_FREE;
    if (!__atomic_compare_exchange_n(&line->state, &expected, GODWIT_SLOT_CLAIMED, 0, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
        return 0;
    if (role_word(region) == word)
        return 1;
    __atomic_store_n(&line->state, GODWIT_SLOT_FREE, __ATOMIC_RELEASE);
    return 0;
}

int64_t godwit_slot_allocate(struct godwit_region *region, unsigned class_index, uint64_t tag)
{
    uint64_t count = godwit_slot_count(region, class_index);
    if (count == 0 || !line_at(region, class_index, 0))
        return -EINVAL;
    uint64_t start = __atomic_load_n(&region->hint[class_index], __ATOMIC_RELAXED);
    for (uint64_t step = 0; step < count; ++step) {
        uint64_t index = (start + step) % count;
        uint64_t word = role_word(region);
        struct godwit_slot_line *line = line_at(region, class_index, index);
        if (!in_my_half(word, index) || !claim(region, line, word))
            continue;
        memset((char *)line + GODWIT_LINE_BYTES, 0,
               region->page->classes[class_index].slot_bytes - GODWIT_LINE_BYTES);
        line->tag = tag;
        line->born = word;
        __atomic_store_n(&line->state, GODWIT_SLOT_USED, __ATOMIC_RELEASE);
        __atomic_store_n(&region->hint[class_index], (uint32_t)((index + 1) % count), __ATOMIC_RELAXED);
        return (int64_t)index;
    }
    return -ENOSPC;
}

int godwit_slot_in_use(const struct godwit_region *region, unsigned class_index, uint64_t index)
{
    const struct godwit_slot_line *line = line_at(region, class_index, index);
    return line && load_word(&line->state) == GODWIT_SLOT_USED;
}

int godwit_slot_is_mine(const struct godwit_region *region, unsigned class_index, uint64_t index)
{
    const struct godwit_slot_line *line = line_at(region, class_index, index);
    if (!line || load_word(&line->state) != GODWIT_SLOT_USED)
        return 0;
    uint64_t word = role_word(region);
    return (word & 0xff) == GODWIT_CLONE ? line->born == word : 1;
}

uint64_t godwit_slot_tag(const struct godwit_region *region, unsigned class_index, uint64_t index)
{
    const struct godwit_slot_line *line = line_at(region, class_index, index);
    return line ? line->tag : 0;
}

int64_t godwit_slot_find(const struct godwit_region *region, unsigned class_index, uint64_t tag)
{
    uint64_t count = godwit_slot_count(region, class_index);
    for (uint64_t index = 0; index < count; ++index)
        if (godwit_slot_in_use(region, class_index, index) &&
            godwit_slot_tag(region, class_index, index) == tag)
            return (int64_t)index;
    return -ENOENT;
}

int godwit_slot_free(struct godwit_region *region, unsigned class_index, uint64_t index)
{
    struct godwit_slot_line *line = line_at(region, class_index, index);
    if (!line || load_word(&line->state) != GODWIT_SLOT_USED)
        return -EINVAL;
    if (!godwit_slot_is_mine(region, class_index, index))
        return -EPERM;
    __atomic_store_n(&line->state, GODWIT_SLOT_FREE, __ATOMIC_RELEASE);
    return 0;
}

static struct godwit_log_line *log_of(const struct godwit_region *region, unsigned class_index)
{
    const struct godwit_class_line *line = class_of(region, class_index);
    if (!line || line->kind != GODWIT_LOG)
        return NULL;
    return (struct godwit_log_line *)((char *)region->page + line->offset);
}

static struct godwit_slot_line *record_at(const struct godwit_region *region, unsigned class_index,
                                          uint64_t index)
{
    const struct godwit_class_line *line = &region->page->classes[class_index];
    return (struct godwit_slot_line *)((char *)region->page + line->offset + (index + 1) * line->slot_bytes);
}

/* The count is all that writers share. A merge may raise it while its guest is paused between any
 * two of these steps: a place taken before is below it, one taken after is behind the merged ones. */
int64_t godwit_log_append(struct godwit_region *region, unsigned class_index, const void *record,
                          uint32_t length)
{
    struct godwit_log_line *log = log_of(region, class_index);
    if (!log || length > region->page->classes[class_index].slot_bytes - GODWIT_LINE_BYTES)
        return -EINVAL;
    /* Read first: if the fork comes in between, both sides finish the record with the same bytes. */
    uint64_t born = role_word(region);
    uint64_t room = godwit_slot_count(region, class_index);
    uint64_t index = load_word(&log->count);
    do {
        if (index >= room)
            return -ENOSPC;
    } while (
        !__atomic_compare_exchange_n(&log->count, &index, index + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    struct godwit_slot_line *line = record_at(region, class_index, index);
    memcpy((char *)line + GODWIT_LINE_BYTES, record, length);
    line->tag = length;
    line->born = born;
    __atomic_store_n(&line->state, GODWIT_SLOT_USED, __ATOMIC_RELEASE);
    return (int64_t)index;
}

uint64_t godwit_log_count(const struct godwit_region *region, unsigned class_index)
{
    const struct godwit_log_line *log = log_of(region, class_index);
    uint64_t room = godwit_slot_count(region, class_index);
    uint64_t count = log ? load_word(&log->count) : 0;
    return count < room ? count : room;
}

const void *godwit_log_record(const struct godwit_region *region, unsigned class_index, uint64_t index,
                              uint32_t *length)
{
    if (index >= godwit_log_count(region, class_index))
        return NULL;
    const struct godwit_slot_line *line = record_at(region, class_index, index);
    uint64_t payload = region->page->classes[class_index].slot_bytes - GODWIT_LINE_BYTES;
    if (load_word(&line->state) != GODWIT_SLOT_USED || line->tag > payload)
        return NULL;
    if (length)
        *length = (uint32_t)line->tag;
    return (const char *)line + GODWIT_LINE_BYTES;
}
