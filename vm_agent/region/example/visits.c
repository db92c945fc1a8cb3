/* visits: a small application that keeps its state in a migration region.
 *
 *   cc -o visits visits.c $(pkg-config --cflags --libs godwit-region)
 *   ./visits /dev/dax0.0 alice bob alice
 *
 * Each name is a session of its own, all visits are counted, the longest name is known, and every
 * visit is written into a log. Each of the four is a slot class with the merge rule it needs, so
 * that source and clone can both go on after a fork and nothing is lost when they are merged. */
#include <godwit/godwit_region.h>

#include <stdio.h>
#include <string.h>

enum { SESSIONS, TOTALS, RECORDS, AUDIT, CLASSES };

/* Owned by a session, so the source's bytes are the right ones; at most one line, so that a merge
 * takes it as a whole. */
struct visitor {
    char name[48];
    uint64_t visits;
};

static const struct godwit_class_spec classes[CLASSES] = {
    [SESSIONS] = {"sessions", GODWIT_SOURCE_WINS, GODWIT_ALLOCATED, sizeof(struct visitor), 256},
    [TOTALS] = {"totals", GODWIT_ADD_DELTA, GODWIT_FIXED, 64, 1},
    [RECORDS] = {"longest-name", GODWIT_MAX, GODWIT_FIXED, 64, 1},
    [AUDIT] = {"audit", GODWIT_APPEND, GODWIT_LOG, 48, 1024},
};

static uint64_t tag_of(const char *name)
{
    uint64_t hash = 14695981039346656037ull;
    for (; *name; ++name) hash = (hash ^ (unsigned char)*name) * 1099511628211ull;
    return hash;
}

/* The visitor's record if this side may write it. A clone may not touch what it did not make. */
static struct visitor *visitor_of(struct godwit_region *region, const char *name)
{
    int64_t slot = godwit_slot_find(region, SESSIONS, tag_of(name));
    if (slot < 0)
        slot = godwit_slot_allocate(region, SESSIONS, tag_of(name));
    if (slot < 0 || !godwit_slot_is_mine(region, SESSIONS, (uint64_t)slot))
        return NULL;
    return godwit_slot_payload(region, SESSIONS, (uint64_t)slot);
}

static int visit(struct godwit_region *region, const char *name)
{
    struct visitor *visitor = visitor_of(region, name);
    if (!visitor) {
        fprintf(stderr, "visits: %s: no room, or served by the other side of a migration\n", name);
        return 1;
    }
    snprintf(visitor->name, sizeof(visitor->name), "%s", name);
    visitor->visits++;
    uint64_t total = godwit_word_add(godwit_slot_payload(region, TOTALS, 0), 1);
    godwit_word_raise(godwit_slot_payload(region, RECORDS, 0), strlen(name));
    if (godwit_log_append(region, AUDIT, visitor->name, (uint32_t)strlen(visitor->name)) < 0)
        fprintf(stderr, "visits: the log is full\n");
    printf("%s: visit %llu of %llu\n", visitor->name, (unsigned long long)visitor->visits,
           (unsigned long long)total);
    return 0;
}

int main(int argc, char **argv)
{
    struct godwit_region region;
    int failed = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: visits REGION NAME...\n");
        return 2;
    }
    int error = godwit_region_open(&region, argv[1], classes, CLASSES);
    if (error) {
        fprintf(stderr, "visits: %s: %s: %s\n", argv[1], region.error, strerror(-error));
        return 1;
    }
    for (int i = 2; i < argc; ++i) failed |= visit(&region, argv[i]);
    godwit_region_close(&region);
    return failed;
}
