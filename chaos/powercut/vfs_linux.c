//go:build cgo

// A VFS of SQLite's that hands everything on to the default one, and tells Go what was written, truncated,
// synced, created and deleted. It tells it before SQLite goes on, and so in the order in which SQLite did it: where
// that matters, SQLite holds a lock of the file.

#include <stddef.h>
#include <stdint.h>
#include "_cgo_export.h"

// SQLite's own declarations of a VFS, as far as they are used here: they do not change, since programs that
// were compiled with them have to go on to work. See https://www.sqlite.org/c3ref/vfs.html.
typedef int64_t sqlite3_int64;
typedef struct sqlite3_file sqlite3_file;
typedef struct sqlite3_vfs sqlite3_vfs;
typedef void (*sqlite3_syscall_ptr)(void);

typedef struct sqlite3_io_methods {
	int iVersion;
	int (*xClose)(sqlite3_file *);
	int (*xRead)(sqlite3_file *, void *, int, sqlite3_int64);
	int (*xWrite)(sqlite3_file *, const void *, int, sqlite3_int64);
	int (*xTruncate)(sqlite3_file *, sqlite3_int64);
	int (*xSync)(sqlite3_file *, int);
	int (*xFileSize)(sqlite3_file *, sqlite3_int64 *);
	int (*xLock)(sqlite3_file *, int);
	int (*xUnlock)(sqlite3_file *, int);
	int (*xCheckReservedLock)(sqlite3_file *, int *);
	int (*xFileControl)(sqlite3_file *, int, void *);
	int (*xSectorSize)(sqlite3_file *);
	int (*xDeviceCharacteristics)(sqlite3_file *);
	int (*xShmMap)(sqlite3_file *, int, int, int, void volatile **);
	int (*xShmLock)(sqlite3_file *, int, int, int);
	void (*xShmBarrier)(sqlite3_file *);
	int (*xShmUnmap)(sqlite3_file *, int);
	int (*xFetch)(sqlite3_file *, sqlite3_int64, int, void **);
	int (*xUnfetch)(sqlite3_file *, sqlite3_int64, void *);
} sqlite3_io_methods;

struct sqlite3_file {
	const sqlite3_io_methods *pMethods;
};

struct sqlite3_vfs {
	int iVersion;
	int szOsFile;
	int mxPathname;
	sqlite3_vfs *pNext;
	const char *zName;
	void *pAppData;
	int (*xOpen)(sqlite3_vfs *, const char *, sqlite3_file *, int, int *);
	int (*xDelete)(sqlite3_vfs *, const char *, int);
	int (*xAccess)(sqlite3_vfs *, const char *, int, int *);
	int (*xFullPathname)(sqlite3_vfs *, const char *, int, char *);
	void *(*xDlOpen)(sqlite3_vfs *, const char *);
	void (*xDlError)(sqlite3_vfs *, int, char *);
	void (*(*xDlSym)(sqlite3_vfs *, void *, const char *))(void);
	void (*xDlClose)(sqlite3_vfs *, void *);
	int (*xRandomness)(sqlite3_vfs *, int, char *);
	int (*xSleep)(sqlite3_vfs *, int);
	int (*xCurrentTime)(sqlite3_vfs *, double *);
	int (*xGetLastError)(sqlite3_vfs *, int, char *);
	int (*xCurrentTimeInt64)(sqlite3_vfs *, sqlite3_int64 *);
	int (*xSetSystemCall)(sqlite3_vfs *, const char *, sqlite3_syscall_ptr);
	sqlite3_syscall_ptr (*xGetSystemCall)(sqlite3_vfs *, const char *);
	const char *(*xNextSystemCall)(sqlite3_vfs *, const char *);
};

#define SQLITE_OK 0
#define SQLITE_ERROR 1

// The library that github.com/mattn/go-sqlite3 links into the program has these. They are weak, so that this package
// can be linked without it, as cgo does to look at it.
extern int sqlite3_vfs_register(sqlite3_vfs *, int) __attribute__((weak));
extern sqlite3_vfs *sqlite3_vfs_find(const char *) __attribute__((weak));

typedef struct {
	sqlite3_file base;
	uintptr_t handle; // of Go's; 0 if nobody records the file
} recorded;

// The inner file follows its wrapper, aligned as any of C's objects may have to be.
#define HEAD ((sizeof(recorded) + 15) / 16 * 16)
#define INNER(f) ((sqlite3_file *)((char *)(f) + HEAD))
#define HANDLE(f) (((recorded *)(f))->handle)
#define IN(f) (INNER(f)->pMethods)

static sqlite3_vfs *inner;

static int file_close(sqlite3_file *f) {
	if (HANDLE(f)) powercutClosed(HANDLE(f));
	HANDLE(f) = 0;
	return IN(f)->xClose(INNER(f));
}

static int file_write(sqlite3_file *f, const void *data, int n, sqlite3_int64 off) {
	int rc = HANDLE(f) ? powercutFails(HANDLE(f), 1) : SQLITE_OK;
	if (rc == SQLITE_OK) rc = IN(f)->xWrite(INNER(f), data, n, off);
	if (rc == SQLITE_OK && HANDLE(f)) powercutWrote(HANDLE(f), (void *)data, n, off);
	return rc;
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size) {
	int rc = IN(f)->xTruncate(INNER(f), size);
	if (rc == SQLITE_OK && HANDLE(f)) powercutTruncated(HANDLE(f), size);
	return rc;
}

// A file that is recorded is not synced in truth: the power will not go.
static int file_sync(sqlite3_file *f, int flags) {
	if (!HANDLE(f)) return IN(f)->xSync(INNER(f), flags);
	int rc = powercutFails(HANDLE(f), 0);
	if (rc == SQLITE_OK) rc = powercutSync(HANDLE(f));
	return rc;
}

static int file_read(sqlite3_file *f, void *data, int n, sqlite3_int64 off) { return IN(f)->xRead(INNER(f), data, n, off); }
static int file_size(sqlite3_file *f, sqlite3_int64 *size) { return IN(f)->xFileSize(INNER(f), size); }
static int file_lock(sqlite3_file *f, int level) { return IN(f)->xLock(INNER(f), level); }
static int file_unlock(sqlite3_file *f, int level) { return IN(f)->xUnlock(INNER(f), level); }
static int file_check(sqlite3_file *f, int *reserved) { return IN(f)->xCheckReservedLock(INNER(f), reserved); }
static int file_control(sqlite3_file *f, int op, void *arg) { return IN(f)->xFileControl(INNER(f), op, arg); }
static int file_sector(sqlite3_file *f) { return IN(f)->xSectorSize(INNER(f)); }
static int file_characteristics(sqlite3_file *f) { return IN(f)->xDeviceCharacteristics(INNER(f)); }
static int file_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **p) {
	return IN(f)->xShmMap(INNER(f), page, size, extend, p);
}
static int file_shm_lock(sqlite3_file *f, int off, int n, int flags) { return IN(f)->xShmLock(INNER(f), off, n, flags); }
static void file_shm_barrier(sqlite3_file *f) { IN(f)->xShmBarrier(INNER(f)); }
static int file_shm_unmap(sqlite3_file *f, int delete) { return IN(f)->xShmUnmap(INNER(f), delete); }
static int file_fetch(sqlite3_file *f, sqlite3_int64 off, int n, void **p) { return IN(f)->xFetch(INNER(f), off, n, p); }
static int file_unfetch(sqlite3_file *f, sqlite3_int64 off, void *p) { return IN(f)->xUnfetch(INNER(f), off, p); }

static const sqlite3_io_methods methods = {
	3, file_close, file_read, file_write, file_truncate, file_sync, file_size, file_lock, file_unlock, file_check,
	file_control, file_sector, file_characteristics, file_shm_map, file_shm_lock, file_shm_barrier, file_shm_unmap,
	file_fetch, file_unfetch,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out) {
	f->pMethods = NULL;
	HANDLE(f) = 0;
	INNER(f)->pMethods = NULL;
	int rc = inner->xOpen(inner, name, INNER(f), flags, out);
	if (!IN(f)) return rc;
	f->pMethods = &methods;
	if (rc == SQLITE_OK && name) HANDLE(f) = powercutOpened((char *)name, flags);
	return rc;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_directory) {
	int rc = inner->xDelete(inner, name, 0);
	if (rc == SQLITE_OK) powercutDeleted((char *)name, sync_directory);
	return rc;
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out) { return inner->xAccess(inner, name, flags, out); }
static int vfs_pathname(sqlite3_vfs *vfs, const char *name, int n, char *out) { return inner->xFullPathname(inner, name, n, out); }
static void *vfs_dlopen(sqlite3_vfs *vfs, const char *name) { return inner->xDlOpen(inner, name); }
static void vfs_dlerror(sqlite3_vfs *vfs, int n, char *out) { inner->xDlError(inner, n, out); }
static void (*vfs_dlsym(sqlite3_vfs *vfs, void *lib, const char *name))(void) { return inner->xDlSym(inner, lib, name); }
static void vfs_dlclose(sqlite3_vfs *vfs, void *lib) { inner->xDlClose(inner, lib); }
static int vfs_randomness(sqlite3_vfs *vfs, int n, char *out) { return inner->xRandomness(inner, n, out); }
static int vfs_sleep(sqlite3_vfs *vfs, int micros) { return inner->xSleep(inner, micros); }
static int vfs_time(sqlite3_vfs *vfs, double *out) { return inner->xCurrentTime(inner, out); }
static int vfs_error(sqlite3_vfs *vfs, int n, char *out) { return inner->xGetLastError(inner, n, out); }
static int vfs_time64(sqlite3_vfs *vfs, sqlite3_int64 *out) { return inner->xCurrentTimeInt64(inner, out); }

int powercut_register(const char *name, int make_default) {
	static sqlite3_vfs vfs = {
		2, 0, 0, NULL, NULL, NULL, vfs_open, vfs_delete, vfs_access, vfs_pathname, vfs_dlopen, vfs_dlerror, vfs_dlsym,
		vfs_dlclose, vfs_randomness, vfs_sleep, vfs_time, vfs_error, vfs_time64, NULL, NULL, NULL,
	};
	if (!sqlite3_vfs_register || !sqlite3_vfs_find) return SQLITE_ERROR;
	inner = sqlite3_vfs_find(NULL);
	if (!inner || inner->iVersion < 2) return SQLITE_ERROR;
	vfs.szOsFile = HEAD + inner->szOsFile;
	vfs.mxPathname = inner->mxPathname;
	vfs.zName = name;
	return sqlite3_vfs_register(&vfs, make_default);
}
