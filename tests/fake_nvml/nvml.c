/* A stand-in for libnvidia-ml.so.1 whose devices do what a script says and whose true energy is known.
 *
 * The meters are tested through the real pynvml binding against this library; nothing in Python is replaced.
 * $FAKE_NVML names the script. It is read again whenever the file changes, so that a test can change the world while a
 * meter looks at it; replace the file by a rename, never write into it. Without the variable nvmlInit says that no
 * driver is loaded.
 *
 * One setting per line, `#` starts a comment. Times are seconds since `origin` on CLOCK_MONOTONIC, power is in watts.
 * Settings before the first `device` line belong to all devices; a device is numbered, as NVML does, by its place.
 * [FROM [TO]] limits a setting to a stretch of time.
 *
 *   origin T                         where times count from (default 0)
 *   now T                            the clock stands at T: a virtual clock, moved by rewriting the script
 *   driver TEXT | cuda N             versions (12080 is CUDA 12.8)
 *   latency S                        every call takes at least so long
 *   fail FUNCTION CODE [FROM [TO]]   the function returns this NVML error; before the first device also nvmlInit's
 *
 *   device                           starts a device
 *   name TEXT | uuid TEXT | bus TEXT (as in 00000000:07:00.0) | arch N (5 Volta, 7 Ampere, 9 Hopper)
 *   power T constant W               from T on; the last that has begun holds. Before the first there is no power
 *   power T square LOW HIGH PERIOD [DUTY]          begins with HIGH, for DUTY (0.5) of each period
 *   power T ramp FIRST LAST SECONDS                then stays at LAST
 *   power T noise MEAN SPREAD STEP SEED            uniform in MEAN +- SPREAD, new every STEP seconds
 *   counter_period S                 between the total-energy counter's updates (0.1)
 *   counter_phase S | counter_jitter S              when they come: by default at multiples of the period, exactly
 *   counter_window S                 at an update, power of the last S seconds stands for the whole period (all of it)
 *   counter_gain X [FROM [TO]]       a counter that lies: it adds X times the energy (1)
 *   counter_start MJ                 millijoules at the beginning (5e9)
 *   counter_reset T                  at T the counter starts again at 0
 *   counter_stall FROM TO [lost]     no updates; afterwards it catches up, or with `lost` goes on from where it stood
 *   sensor_period S | sensor_window S | sensor_gain X    of instant power: updates (0.1), averaging (0.025), factor (1)
 *   instant gpu|module|none          the scope that has the field for instant power (gpu; none before Ampere)
 *   process PID BYTES [FROM [TO]]    a compute process; BYTES `-` where NVML cannot say
 *   graphics PID BYTES [FROM [TO]]   a graphics process
 *   memory TOTAL USED [FROM [TO]]    bytes
 *   temperature C [FROM [TO]] | clock_sm MHZ [FROM [TO]] | clock_memory MHZ [FROM [TO]]     the last that holds
 *   limit W | default_limit W        power limits (400)
 *   throttle power|thermal FROM [TO]   clocks are held down for this reason
 *   lost FROM                        the device has fallen off the bus
 *   mig UUID                         MIG is on, with this instance; may be repeated
 *   virtual 1                        a vGPU guest
 *
 * Beyond NVML, for tests: double fakeTrueEnergy(unsigned device, double start, double stop), joules by the script's power
 * alone, times as in the script. A script that cannot be understood ends the process with a message.
 */
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    GPU_IS_LOST = 15,
};
enum { VOLTA = 5, AMPERE = 7 };
enum { FIELD_TOTAL_ENERGY = 83, FIELD_POWER_AVERAGE = 185, FIELD_POWER_INSTANT = 186 };
enum { TYPE_UINT = 1, TYPE_ULONGLONG = 3 };
enum { REASON_IDLE = 0x1, REASON_POWER_CAP = 0x4, REASON_THERMAL = 0x20 };
enum { POLICY_POWER = 0, POLICY_THERMAL = 1 };

#define MAX_DEVICES 16
#define MAX_ITEMS 64
#define MAX_TEXT 96
#define MIG_SHIFT 8 /* a handle is device + 1, and above that MIG instance + 1 */

typedef void *Handle;
typedef int Return;

typedef struct {
    double from, to;
} Span;

typedef enum { CONSTANT, SQUARE, RAMP, NOISE } Shape;

typedef struct {
    Shape shape;
    double start, a, b, c, d; /* the numbers after the shape's name, in the script's order */
} Power;

typedef struct {
    char function[MAX_TEXT];
    int code;
    Span span;
} Failure;

typedef struct {
    unsigned pid;
    unsigned long long bytes;
    int graphics;
    Span span;
} Process;

typedef struct {
    double value, value2;
    Span span;
} Value; /* a number that holds for some time */

typedef struct {
    Value items[MAX_ITEMS];
    int count;
} Values;

typedef struct {
    char name[MAX_TEXT], uuid[MAX_TEXT], bus[MAX_TEXT];
    unsigned arch;
    Power power[MAX_ITEMS];
    int powers;
    double counter_period, counter_phase, counter_jitter, counter_window, counter_start, counter_reset;
    Values counter_gain, temperature, clock_sm, clock_memory, memory;
    Value stall[MAX_ITEMS]; /* value 1: what was drawn meanwhile is lost */
    int stalls;
    double sensor_period, sensor_window, sensor_gain;
    int instant_scope; /* -1: the field does not exist */
    Process processes[MAX_ITEMS];
    int process_count;
    double limit, default_limit, lost;
    Value throttle[MAX_ITEMS]; /* value: the policy */
    int throttles;
    char mig[MAX_ITEMS][MAX_TEXT];
    int migs;
    int is_virtual;
    Failure failures[MAX_ITEMS];
    int failure_count;
} Device;

typedef struct {
    double origin, now, latency; /* now is NAN while the clock runs by itself */
    char driver[MAX_TEXT];
    int cuda;
    Device common; /* what is set before the first device line */
    Device devices[MAX_DEVICES];
    int count;
} World;

static World world;
static int initialised;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- reading the script */

static void refuse(int line, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "fake NVML: line %d: ", line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

static double number(const char *text, int line) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end) refuse(line, "'%s' is not a number", text);
    return value;
}

/* The optional [FROM [TO]] at position `at` of the words. */
static Span span(char **words, int count, int at, int line) {
    Span result = {-INFINITY, INFINITY};
    if (count > at) result.from = number(words[at], line);
    if (count > at + 1) result.to = number(words[at + 1], line);
    if (count > at + 2) refuse(line, "too many words");
    return result;
}

static void push(Values *values, Value value, int line) {
    if (values->count == MAX_ITEMS) refuse(line, "more than %d settings of one kind", MAX_ITEMS);
    values->items[values->count++] = value;
}

static void device_defaults(Device *device) {
    memset(device, 0, sizeof *device);
    snprintf(device->name, MAX_TEXT, "NVIDIA FAKE-100");
    device->arch = 9;
    device->counter_period = device->sensor_period = 0.1;
    device->counter_start = 5e9;
    device->counter_reset = device->lost = INFINITY;
    device->sensor_window = 0.025;
    device->sensor_gain = 1;
    device->limit = device->default_limit = 400;
    Span always = {-INFINITY, INFINITY};
    push(&device->counter_gain, (Value){1, 0, always}, 0);
    push(&device->temperature, (Value){45, 0, always}, 0);
    push(&device->clock_sm, (Value){1410, 0, always}, 0);
    push(&device->clock_memory, (Value){1593, 0, always}, 0);
    push(&device->memory, (Value){80e9, 1e9, always}, 0);
}

static void need(int count, int least, int line) {
    if (count <= least) refuse(line, "expected at least %d words after the first", least);
}

static void read_power(Device *device, char **words, int count, int line) {
    static const struct {
        const char *name;
        Shape shape;
        int least;
    } shapes[] = {{"constant", CONSTANT, 1}, {"square", SQUARE, 3}, {"ramp", RAMP, 3}, {"noise", NOISE, 4}};
    need(count, 3, line);
    if (device->powers == MAX_ITEMS) refuse(line, "more than %d power lines", MAX_ITEMS);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (strcmp(words[2], shapes[i].name)) continue;
        need(count, 2 + shapes[i].least, line);
        double numbers[4] = {0, 0, 0, 0.5};
        for (int k = 0; k < 4 && k + 3 < count; k++) numbers[k] = number(words[k + 3], line);
        Power power = {shapes[i].shape, number(words[1], line), numbers[0], numbers[1], numbers[2], numbers[3]};
        if (power.shape != CONSTANT && !(power.c > 0)) refuse(line, "a period or duration must be positive");
        if (device->powers && device->power[device->powers - 1].start > power.start) refuse(line, "power goes back in time");
        device->power[device->powers++] = power;
        return;
    }
    refuse(line, "'%s' is not a power curve", words[2]);
}

static void read_process(Device *device, char **words, int count, int line) {
    need(count, 2, line);
    if (device->process_count == MAX_ITEMS) refuse(line, "more than %d processes", MAX_ITEMS);
    device->processes[device->process_count++] = (Process){
        .pid = (unsigned)number(words[1], line),
        .bytes = strcmp(words[2], "-") ? (unsigned long long)number(words[2], line) : UINT64_MAX,
        .graphics = !strcmp(words[0], "graphics"),
        .span = span(words, count, 3, line),
    };
}

static void read_failure(Device *device, char **words, int count, int line) {
    need(count, 2, line);
    if (device->failure_count == MAX_ITEMS) refuse(line, "more than %d failures", MAX_ITEMS);
    Failure *failure = &device->failures[device->failure_count++];
    snprintf(failure->function, MAX_TEXT, "%s", words[1]);
    failure->code = (int)number(words[2], line);
    failure->span = span(words, count, 3, line);
}

/* `rest` is the line after its first word, for texts with spaces. */
static void read_device_setting(Device *device, char **words, int count, const char *rest, int line) {
    const char *key = words[0];
    const struct {
        const char *name;
        double *value;
    } numbers[] = {
        {"counter_period", &device->counter_period}, {"counter_phase", &device->counter_phase},
        {"counter_jitter", &device->counter_jitter}, {"counter_window", &device->counter_window},
        {"counter_start", &device->counter_start},   {"counter_reset", &device->counter_reset},
        {"sensor_period", &device->sensor_period},   {"sensor_window", &device->sensor_window},
        {"sensor_gain", &device->sensor_gain},       {"limit", &device->limit},
        {"default_limit", &device->default_limit},   {"lost", &device->lost},
    };
    const struct {
        const char *name;
        Values *values;
        int size; /* numbers that make one value */
    } series[] = {
        {"counter_gain", &device->counter_gain, 1}, {"temperature", &device->temperature, 1},
        {"clock_sm", &device->clock_sm, 1},         {"clock_memory", &device->clock_memory, 1},
        {"memory", &device->memory, 2},
    };
    const struct {
        const char *name;
        char *text;
    } texts[] = {{"name", device->name}, {"uuid", device->uuid}, {"bus", device->bus}};

    need(count, 1, line);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(key, numbers[i].name)) {
            *numbers[i].value = number(words[1], line);
            return;
        }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!strcmp(key, texts[i].name)) {
            snprintf(texts[i].text, MAX_TEXT, "%s", rest);
            return;
        }
    for (size_t i = 0; i < sizeof series / sizeof *series; i++)
        if (!strcmp(key, series[i].name)) {
            need(count, series[i].size, line);
            double second = series[i].size == 2 ? number(words[2], line) : 0;
            push(series[i].values,
                 (Value){number(words[1], line), second, span(words, count, 1 + series[i].size, line)}, line);
            return;
        }
    if (!strcmp(key, "power")) {
        read_power(device, words, count, line);
    } else if (!strcmp(key, "process") || !strcmp(key, "graphics")) {
        read_process(device, words, count, line);
    } else if (!strcmp(key, "fail")) {
        read_failure(device, words, count, line);
    } else if (!strcmp(key, "arch")) {
        device->arch = (unsigned)number(words[1], line);
    } else if (!strcmp(key, "virtual")) {
        device->is_virtual = number(words[1], line) != 0;
    } else if (!strcmp(key, "instant")) {
        device->instant_scope = !strcmp(words[1], "gpu") ? 0 : !strcmp(words[1], "module") ? 1 : -1;
    } else if (!strcmp(key, "counter_stall")) {
        need(count, 2, line);
        if (device->stalls == MAX_ITEMS) refuse(line, "too many stalls");
        int lost = count > 3 && !strcmp(words[3], "lost");
        device->stall[device->stalls++] = (Value){lost, 0, {number(words[1], line), number(words[2], line)}};
    } else if (!strcmp(key, "throttle")) {
        need(count, 2, line);
        if (device->throttles == MAX_ITEMS) refuse(line, "too many throttle lines");
        int policy = strcmp(words[1], "power") ? POLICY_THERMAL : POLICY_POWER;
        device->throttle[device->throttles++] = (Value){policy, 0, span(words, count, 2, line)};
    } else if (!strcmp(key, "mig")) {
        if (device->migs == MAX_ITEMS) refuse(line, "too many MIG instances");
        snprintf(device->mig[device->migs++], MAX_TEXT, "%s", words[1]);
    } else {
        refuse(line, "unknown setting '%s'", key);
    }
}

static void read_line(World *into, char *text, int line) {
    text[strcspn(text, "#\n")] = 0;
    char rest[512];
    char *words[12];
    int count = 0;
    text += strspn(text, " \t");
    const char *after = text + strcspn(text, " \t");
    snprintf(rest, sizeof rest, "%s", after + strspn(after, " \t"));
    for (size_t end = strlen(rest); end && strchr(" \t\r", rest[end - 1]); end--) rest[end - 1] = 0;
    char *saved;
    for (char *word = strtok_r(text, " \t\r", &saved); word; word = strtok_r(NULL, " \t\r", &saved)) {
        if (count == 12) refuse(line, "too many words");
        words[count++] = word;
    }
    if (!count) return;
    if (!strcmp(words[0], "device")) {
        if (into->count == MAX_DEVICES) refuse(line, "more than %d devices", MAX_DEVICES);
        Device *device = &into->devices[into->count++];
        *device = into->common;
        snprintf(device->uuid, MAX_TEXT, "GPU-fa4e%04d-0000-4000-8000-%012d", into->count - 1, into->count - 1);
        snprintf(device->bus, MAX_TEXT, "00000000:%02X:00.0", into->count);
        return;
    }
    if (!into->count && count > 1) {
        double *system[] = {&into->origin, &into->now, &into->latency};
        const char *names[] = {"origin", "now", "latency"};
        for (int i = 0; i < 3; i++)
            if (!strcmp(words[0], names[i])) {
                *system[i] = number(words[1], line);
                return;
            }
        if (!strcmp(words[0], "driver")) {
            snprintf(into->driver, MAX_TEXT, "%s", rest);
            return;
        }
        if (!strcmp(words[0], "cuda")) {
            into->cuda = (int)number(words[1], line);
            return;
        }
    }
    Device *device = into->count ? &into->devices[into->count - 1] : &into->common;
    read_device_setting(device, words, count, rest, line);
}

/* Read the script if it is another file than before. False: there is none. */
static int refresh(void) {
    static struct stat seen;
    static char seen_path[4096];
    const char *path = getenv("FAKE_NVML");
    struct stat found;
    if (!path || stat(path, &found)) return 0;
    if (!strcmp(path, seen_path) && found.st_ino == seen.st_ino && found.st_size == seen.st_size &&
        found.st_mtim.tv_sec == seen.st_mtim.tv_sec && found.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return 1;
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    static World fresh;
    memset(&fresh, 0, sizeof fresh);
    fresh.now = NAN;
    fresh.cuda = 13000;
    snprintf(fresh.driver, MAX_TEXT, "999.99");
    device_defaults(&fresh.common);
    char text[512];
    for (int line = 1; fgets(text, sizeof text, file); line++) read_line(&fresh, text, line);
    fclose(file);
    world = fresh;
    seen = found;
    snprintf(seen_path, sizeof seen_path, "%s", path);
    return 1;
}

/* ---- time and power */

static double now(void) {
    if (!isnan(world.now)) return world.now;
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec - world.origin;
}

static int holds(Span span, double time) { return span.from <= time && time < span.to; }

static Value held(const Values *values, double time) {
    int i = values->count - 1;
    while (i > 0 && !holds(values->items[i].span, time)) i--;
    return values->items[i];
}

/* Uniform in [-1, 1), always the same for the same arguments (splitmix64). */
static double hashed(uint64_t seed, uint64_t index) {
    uint64_t z = seed * 0x9E3779B97F4A7C15u + index * 0xD1B54A32D192ED03u + 0x632BE59BD9B4E019u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-52 - 1;
}

/* Sum of the first `count` hashed numbers: kept, because a counter asks for it again and again. */
static double hashed_sum(uint64_t seed, uint64_t count) {
    static struct {
        uint64_t seed, size;
        double *sums;
    } tables[8];
    static int oldest;
    int i = 0;
    while (i < 8 && !(tables[i].sums && tables[i].seed == seed)) i++;
    if (i == 8) {
        i = oldest++ % 8;
        free(tables[i].sums);
        tables[i].sums = NULL;
        tables[i].seed = seed;
        tables[i].size = 0;
    }
    if (count >= tables[i].size) {
        uint64_t size = 2 * count + 1024;
        tables[i].sums = realloc(tables[i].sums, size * sizeof(double));
        if (!tables[i].sums) refuse(0, "out of memory");
        for (uint64_t k = tables[i].size; k < size; k++)
            tables[i].sums[k] = k ? tables[i].sums[k - 1] + hashed(seed, k - 1) : 0;
        tables[i].size = size;
    }
    return tables[i].sums[count];
}

/* Joules of one power line from its start until `t` seconds later. */
static double integral(const Power *power, double t) {
    switch (power->shape) {
    case CONSTANT:
        return power->a * t;
    case SQUARE: {
        double low = power->a, high = power->b, period = power->c, duty = power->d;
        double whole = floor(t / period), part = t - whole * period, on = duty * period;
        double in_part = part < on ? high * part : high * on + low * (part - on);
        return whole * period * (duty * high + (1 - duty) * low) + in_part;
    }
    case RAMP: {
        double first = power->a, last = power->b, seconds = power->c;
        double rising = fmin(t, seconds);
        return first * rising + (last - first) * rising * rising / (2 * seconds) + last * (t - rising);
    }
    case NOISE: {
        double mean = power->a, spread = power->b, step = power->c;
        uint64_t seed = (uint64_t)power->d, whole = (uint64_t)floor(t / step);
        double part = t - (double)whole * step;
        return mean * t + spread * (step * hashed_sum(seed, whole) + part * hashed(seed, whole));
    }
    }
    return 0;
}

/* Joules drawn before `time`. */
static double drawn(const Device *device, double time) {
    double joules = 0;
    for (int i = 0; i < device->powers && device->power[i].start < time; i++) {
        double end = i + 1 < device->powers ? fmin(time, device->power[i + 1].start) : time;
        joules += integral(&device->power[i], end - device->power[i].start);
    }
    return joules;
}

static double mean_power(const Device *device, double end, double window) {
    return (drawn(device, end) - drawn(device, end - window)) / window;
}

/* What instant power reads at `time`. */
static double sensed(const Device *device, double time) {
    double update = floor(time / device->sensor_period) * device->sensor_period;
    return device->sensor_gain * mean_power(device, update, device->sensor_window);
}

/* ---- the counter */

static double update_time(const Device *device, double index) {
    double jitter = device->counter_jitter * hashed(77, (uint64_t)(int64_t)index);
    return index * device->counter_period + device->counter_phase + jitter;
}

static double last_update(const Device *device, double time) {
    double index = ceil((time - device->counter_phase) / device->counter_period) + 1;
    while (update_time(device, index) > time) index--;
    return index;
}

/* Joules that the counter adds for what is drawn between two times, by gain. */
static double counted_between(const Device *device, double start, double stop) {
    const Values *gains = &device->counter_gain;
    double joules = 0, at = start;
    while (at < stop) { /* gains change at few moments: go from one to the next */
        double next = stop;
        for (int i = 0; i < gains->count; i++) {
            if (gains->items[i].span.from > at) next = fmin(next, gains->items[i].span.from);
            if (gains->items[i].span.to > at) next = fmin(next, gains->items[i].span.to);
        }
        joules += held(gains, at).value * (drawn(device, next) - drawn(device, at));
        at = next;
    }
    return joules;
}

/* Joules on the counter after the update `index`, stalls and resets aside. */
static double counted(const Device *device, double index) {
    double begin = device->powers ? device->power[0].start : 0;
    if (device->counter_window <= 0) return counted_between(device, begin, update_time(device, index));
    double joules = 0;
    for (double i = last_update(device, begin) + 1; i <= index; i++) {
        double at = update_time(device, i), since = fmax(begin, update_time(device, i - 1));
        joules += held(&device->counter_gain, at).value * mean_power(device, at, device->counter_window) * (at - since);
    }
    return joules;
}

static unsigned long long counter_mj(const Device *device, double time) {
    double missing = 0;
    for (int i = 0; i < device->stalls; i++) {
        Value stall = device->stall[i];
        if (holds(stall.span, time)) {
            time = stall.span.from;
        } else if (stall.value && stall.span.to <= time) {
            missing += counted(device, last_update(device, stall.span.to)) -
                       counted(device, last_update(device, stall.span.from));
        }
    }
    double joules = counted(device, last_update(device, time)) - missing;
    if (time >= device->counter_reset)
        return (unsigned long long)(1e3 * (joules - counted(device, last_update(device, device->counter_reset))));
    return (unsigned long long)(device->counter_start + 1e3 * joules);
}

/* ---- entering a call */

static Return scripted_failure(const Device *device, const char *function) {
    double time = now();
    for (int i = 0; i < device->failure_count; i++) {
        const Failure *failure = &device->failures[i];
        if (!strcmp(failure->function, function) && holds(failure->span, time)) return failure->code;
    }
    return SUCCESS;
}

static void take_time(void) {
    if (world.latency > 0) {
        struct timespec pause = {(time_t)world.latency, (long)(1e9 * fmod(world.latency, 1))};
        nanosleep(&pause, NULL);
    }
}

/* Checks that hold for every call of the library; holds the lock when it succeeds. */
static Return enter(const char *function) {
    take_time();
    pthread_mutex_lock(&lock);
    Return status = !refresh() ? DRIVER_NOT_LOADED : scripted_failure(&world.common, function);
    if (!status && !initialised && strncmp(function, "nvmlInit", 8)) status = UNINITIALIZED;
    if (status) pthread_mutex_unlock(&lock);
    return status;
}

/* The same for a call on a device. MIG instances have little of their own: `on_mig` says whether this works on one. */
static Return enter_device(Handle handle, const char *function, int on_mig, const Device **device) {
    Return status = enter(function);
    if (status) return status;
    uintptr_t number = (uintptr_t)handle;
    unsigned index = (unsigned)(number & ((1u << MIG_SHIFT) - 1)) - 1, instance = (unsigned)(number >> MIG_SHIFT);
    if (index >= (unsigned)world.count) {
        status = INVALID_ARGUMENT;
    } else {
        *device = &world.devices[index];
        if (now() >= (*device)->lost) status = GPU_IS_LOST;
        else if (instance && !on_mig) status = NOT_SUPPORTED;
        else status = scripted_failure(*device, function);
    }
    if (status) pthread_mutex_unlock(&lock);
    return status;
}

static Return leave(Return status) {
    pthread_mutex_unlock(&lock);
    return status;
}

#define ENTER()                              \
    do {                                     \
        Return status_ = enter(__func__);    \
        if (status_) return status_;         \
    } while (0)
#define ENTER_DEVICE_ON(on_mig)                                          \
    const Device *device;                                                \
    do {                                                                 \
        Return status_ = enter_device(handle, __func__, on_mig, &device); \
        if (status_) return status_;                                     \
    } while (0)
#define ENTER_DEVICE() ENTER_DEVICE_ON(0)

static Handle handle_of(int device, int instance) {
    return (Handle)(uintptr_t)((unsigned)(device + 1) | (unsigned)(instance + 1) << MIG_SHIFT);
}

static Return give_text(char *into, unsigned size, const char *text) {
    if (strlen(text) + 1 > size) return leave(INSUFFICIENT_SIZE);
    strcpy(into, text);
    return leave(SUCCESS);
}

/* ---- NVML: library and system */

Return nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    ENTER();
    initialised++;
    return leave(SUCCESS);
}

Return nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
Return nvmlInit(void) { return nvmlInitWithFlags(0); }

Return nvmlShutdown(void) {
    ENTER();
    initialised--;
    return leave(SUCCESS);
}

const char *nvmlErrorString(Return code) {
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case GPU_IS_LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

Return nvmlSystemGetDriverVersion(char *version, unsigned size) {
    ENTER();
    return give_text(version, size, world.driver);
}

Return nvmlSystemGetNVMLVersion(char *version, unsigned size) {
    ENTER();
    return give_text(version, size, world.driver);
}

Return nvmlSystemGetCudaDriverVersion(int *version) {
    ENTER();
    *version = world.cuda;
    return leave(SUCCESS);
}

Return nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

/* ---- NVML: finding devices */

Return nvmlDeviceGetCount_v2(unsigned *count) {
    ENTER();
    *count = (unsigned)world.count;
    return leave(SUCCESS);
}

Return nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *handle) {
    ENTER();
    if (index >= (unsigned)world.count) return leave(INVALID_ARGUMENT);
    *handle = handle_of((int)index, -1);
    return leave(SUCCESS);
}

Return nvmlDeviceGetHandleByUUID(const char *uuid, Handle *handle) {
    ENTER();
    for (int i = 0; i < world.count; i++) {
        if (!strcmp(uuid, world.devices[i].uuid)) {
            *handle = handle_of(i, -1);
            return leave(SUCCESS);
        }
        for (int k = 0; k < world.devices[i].migs; k++)
            if (!strcmp(uuid, world.devices[i].mig[k])) {
                *handle = handle_of(i, k);
                return leave(SUCCESS);
            }
    }
    return leave(NOT_FOUND);
}

Return nvmlDeviceGetIndex(Handle handle, unsigned *index) {
    ENTER_DEVICE();
    *index = (unsigned)(device - world.devices);
    return leave(SUCCESS);
}

Return nvmlDeviceGetUUID(Handle handle, char *uuid, unsigned size) {
    ENTER_DEVICE_ON(1);
    uintptr_t instance = (uintptr_t)handle >> MIG_SHIFT;
    return give_text(uuid, size, instance ? device->mig[instance - 1] : device->uuid);
}

Return nvmlDeviceGetName(Handle handle, char *name, unsigned size) {
    ENTER_DEVICE_ON(1);
    return give_text(name, size, device->name);
}

typedef struct {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} Pci;

Return nvmlDeviceGetPciInfo_v3(Handle handle, Pci *pci) {
    ENTER_DEVICE();
    memset(pci, 0, sizeof *pci);
    snprintf(pci->busId, sizeof pci->busId, "%.31s", device->bus);
    sscanf(device->bus, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", pci->domain & 0xffff, pci->bus & 0xff,
             pci->device & 0xff);
    return leave(SUCCESS);
}

Return nvmlDeviceGetArchitecture(Handle handle, unsigned *architecture) {
    ENTER_DEVICE();
    *architecture = device->arch;
    return leave(SUCCESS);
}

Return nvmlDeviceGetCudaComputeCapability(Handle handle, int *major, int *minor) {
    static const struct {
        unsigned arch;
        int major, minor;
    } known[] = {{2, 3, 5}, {3, 5, 2}, {4, 6, 0}, {5, 7, 0}, {6, 7, 5}, {7, 8, 0}, {8, 8, 9}, {9, 9, 0}, {10, 10, 0}};
    ENTER_DEVICE();
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].arch == device->arch) {
            *major = known[i].major;
            *minor = known[i].minor;
            return leave(SUCCESS);
        }
    return leave(NOT_SUPPORTED);
}

Return nvmlDeviceGetVirtualizationMode(Handle handle, unsigned *mode) {
    ENTER_DEVICE();
    *mode = device->is_virtual ? 2 : 0;
    return leave(SUCCESS);
}

/* ---- NVML: MIG */

Return nvmlDeviceGetMigMode(Handle handle, unsigned *current, unsigned *pending) {
    ENTER_DEVICE();
    if (device->arch < AMPERE) return leave(NOT_SUPPORTED);
    *current = *pending = device->migs > 0;
    return leave(SUCCESS);
}

Return nvmlDeviceGetMaxMigDeviceCount(Handle handle, unsigned *count) {
    ENTER_DEVICE();
    *count = device->arch < AMPERE ? 0 : 7;
    return leave(SUCCESS);
}

Return nvmlDeviceGetMigDeviceHandleByIndex(Handle handle, unsigned index, Handle *instance) {
    ENTER_DEVICE();
    if (index >= (unsigned)device->migs) return leave(NOT_FOUND);
    *instance = handle_of((int)(device - world.devices), (int)index);
    return leave(SUCCESS);
}

Return nvmlDeviceIsMigDeviceHandle(Handle handle, unsigned *is_mig) {
    ENTER_DEVICE_ON(1);
    *is_mig = (uintptr_t)handle >> MIG_SHIFT != 0;
    return leave(SUCCESS);
}

Return nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Handle handle, Handle *parent) {
    ENTER_DEVICE_ON(1);
    if (!((uintptr_t)handle >> MIG_SHIFT)) return leave(INVALID_ARGUMENT);
    *parent = handle_of((int)(device - world.devices), -1);
    return leave(SUCCESS);
}

/* ---- NVML: energy and power */

static Return total_energy(const Device *device, unsigned long long *mj) {
    if (device->arch < VOLTA || device->is_virtual) return NOT_SUPPORTED;
    *mj = counter_mj(device, now());
    return SUCCESS;
}

Return nvmlDeviceGetTotalEnergyConsumption(Handle handle, unsigned long long *mj) {
    ENTER_DEVICE();
    return leave(total_energy(device, mj));
}

/* From Ampere on this is a mean over the last second. */
static double average_power(const Device *device) {
    if (device->arch < AMPERE) return sensed(device, now());
    double update = floor(now() / device->sensor_period) * device->sensor_period;
    return device->sensor_gain * mean_power(device, update, 1);
}

Return nvmlDeviceGetPowerUsage(Handle handle, unsigned *mw) {
    ENTER_DEVICE();
    if (device->is_virtual) return leave(NOT_SUPPORTED);
    *mw = (unsigned)lround(1e3 * average_power(device));
    return leave(SUCCESS);
}

typedef struct {
    uint32_t field, scope;
    int64_t timestamp_us, latency_us;
    uint32_t type;
    Return status;
    union {
        double real;
        uint32_t number;
        unsigned long long long_number;
    } value;
} FieldValue;

static void field_value(const Device *device, FieldValue *field) {
    field->timestamp_us = (int64_t)(1e6 * now());
    field->latency_us = 0;
    field->status = NOT_SUPPORTED;
    int has_power = device->arch >= AMPERE && !device->is_virtual && (int)field->scope == device->instant_scope;
    if (field->field == FIELD_TOTAL_ENERGY) {
        field->type = TYPE_ULONGLONG;
        field->status = total_energy(device, &field->value.long_number);
    } else if (has_power && (field->field == FIELD_POWER_INSTANT || field->field == FIELD_POWER_AVERAGE)) {
        double power = field->field == FIELD_POWER_INSTANT ? sensed(device, now()) : average_power(device);
        field->type = TYPE_UINT;
        field->status = SUCCESS;
        field->value.number = (uint32_t)lround(1e3 * power);
    }
}

Return nvmlDeviceGetFieldValues(Handle handle, int count, FieldValue *fields) {
    ENTER_DEVICE();
    for (int i = 0; i < count; i++) field_value(device, &fields[i]);
    return leave(SUCCESS);
}

static Return milliwatts(double power, unsigned *mw) {
    *mw = (unsigned)lround(1e3 * power);
    return leave(SUCCESS);
}

Return nvmlDeviceGetEnforcedPowerLimit(Handle handle, unsigned *mw) {
    ENTER_DEVICE();
    return milliwatts(device->limit, mw);
}

Return nvmlDeviceGetPowerManagementLimit(Handle handle, unsigned *mw) {
    ENTER_DEVICE();
    return milliwatts(device->limit, mw);
}

Return nvmlDeviceGetPowerManagementDefaultLimit(Handle handle, unsigned *mw) {
    ENTER_DEVICE();
    return milliwatts(device->default_limit, mw);
}

/* ---- NVML: clocks, temperature, throttling */

Return nvmlDeviceGetClockInfo(Handle handle, unsigned type, unsigned *mhz) {
    ENTER_DEVICE();
    *mhz = (unsigned)held(type == 2 ? &device->clock_memory : &device->clock_sm, now()).value;
    return leave(SUCCESS);
}

Return nvmlDeviceGetMaxClockInfo(Handle handle, unsigned type, unsigned *mhz) {
    ENTER_DEVICE();
    *mhz = (unsigned)(type == 2 ? device->clock_memory : device->clock_sm).items[0].value;
    return leave(SUCCESS);
}

Return nvmlDeviceGetTemperature(Handle handle, unsigned sensor, unsigned *celsius) {
    (void)sensor;
    ENTER_DEVICE();
    *celsius = (unsigned)held(&device->temperature, now()).value;
    return leave(SUCCESS);
}

typedef struct {
    unsigned version, sensor;
    int temperature;
} Temperature;

Return nvmlDeviceGetTemperatureV(Handle handle, Temperature *temperature) {
    ENTER_DEVICE();
    temperature->temperature = (int)held(&device->temperature, now()).value;
    return leave(SUCCESS);
}

Return nvmlDeviceGetCurrentClocksEventReasons(Handle handle, unsigned long long *reasons) {
    ENTER_DEVICE();
    *reasons = 0;
    for (int i = 0; i < device->throttles; i++)
        if (holds(device->throttle[i].span, now()))
            *reasons |= device->throttle[i].value == POLICY_POWER ? REASON_POWER_CAP : REASON_THERMAL;
    return leave(SUCCESS);
}

Return nvmlDeviceGetCurrentClocksThrottleReasons(Handle handle, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksEventReasons(handle, reasons);
}

typedef struct {
    unsigned long long reference_us, violation_ns;
} Violation;

Return nvmlDeviceGetViolationStatus(Handle handle, unsigned policy, Violation *violation) {
    ENTER_DEVICE();
    double time = now(), seconds = 0;
    for (int i = 0; i < device->throttles; i++) {
        Span span = device->throttle[i].span;
        if (device->throttle[i].value == (double)policy) seconds += fmax(0, fmin(time, span.to) - span.from);
    }
    violation->reference_us = (unsigned long long)(1e6 * time);
    violation->violation_ns = (unsigned long long)(1e9 * seconds);
    return leave(policy > POLICY_THERMAL ? NOT_SUPPORTED : SUCCESS);
}

/* ---- NVML: memory and processes */

typedef struct {
    unsigned long long total, free, used;
} Memory;

Return nvmlDeviceGetMemoryInfo(Handle handle, Memory *memory) {
    ENTER_DEVICE();
    Value bytes = held(&device->memory, now());
    memory->total = (unsigned long long)bytes.value;
    memory->used = (unsigned long long)bytes.value2;
    memory->free = memory->total - memory->used;
    return leave(SUCCESS);
}

typedef struct {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} ProcessInfo;

static Return list_processes(const Device *device, int graphics, unsigned *count, ProcessInfo *into) {
    unsigned room = into ? *count : 0, found = 0;
    for (int i = 0; i < device->process_count; i++) {
        const Process *process = &device->processes[i];
        if (process->graphics != graphics || !holds(process->span, now())) continue;
        if (found < room) into[found] = (ProcessInfo){process->pid, process->bytes, UINT32_MAX, UINT32_MAX};
        found++;
    }
    *count = found;
    return leave(found > room ? INSUFFICIENT_SIZE : SUCCESS);
}

Return nvmlDeviceGetComputeRunningProcesses_v3(Handle handle, unsigned *count, ProcessInfo *into) {
    ENTER_DEVICE();
    return list_processes(device, 0, count, into);
}

Return nvmlDeviceGetGraphicsRunningProcesses_v3(Handle handle, unsigned *count, ProcessInfo *into) {
    ENTER_DEVICE();
    return list_processes(device, 1, count, into);
}

typedef struct {
    unsigned gpu, memory;
} Utilization;

Return nvmlDeviceGetUtilizationRates(Handle handle, Utilization *utilization) {
    ENTER_DEVICE();
    double share = device->limit > 0 ? mean_power(device, now(), 0.1) / device->limit : 0;
    utilization->gpu = utilization->memory = (unsigned)fmin(100, 100 * share);
    return leave(SUCCESS);
}

Return nvmlDeviceGetPersistenceMode(Handle handle, unsigned *mode) {
    ENTER_DEVICE();
    *mode = 1;
    return leave(SUCCESS);
}

/* ---- for tests */

double fakeTrueEnergy(unsigned index, double start, double stop) {
    pthread_mutex_lock(&lock);
    double joules = NAN;
    if (refresh() && index < (unsigned)world.count)
        joules = drawn(&world.devices[index], stop) - drawn(&world.devices[index], start);
    pthread_mutex_unlock(&lock);
    return joules;
}
