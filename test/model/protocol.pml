/*
 * The protocol of docs/protocol.md, to be searched through by spin.
 *
 * One runtime with two versions (slots). A tree has an inode of its own for its
 * directory and its .ref, and two files for its content. A kill ends a process
 * before any of its steps: its locks, descriptors and mounts go, what it has
 * changed stays.
 *
 *   own reader                 store/hold.go
 *   mounting reader            bubblewrap: mounts, opens .ref, locks, looks once
 *   opening reader             pressure-vessel: opens .ref, locks, looks once
 *   slow reader                one whose path walk began before a rename: it
 *                              holds the directory, which is no use of it, and
 *                              opens and locks in one step
 *   collect, condemn, settle   store/collect.go, settle.go, delete.go
 *   drain                      store/drain.go
 *   install                    store/stage.go, install.go, publish.go
 *   switcher, pinner, deferrer store/switch.go
 *   supervisor                 cmd/berth/supervise.go
 *   replacer                   store/replace.go
 *
 * What processes take part is chosen by CONFIG, what is left out of the
 * protocol by one of the MUT_ macros.
 */

#define SLOTS 2
#define TREES 3
#define NONE 255
#ifndef KILLS
#define KILLS 1
#endif

/* A tree. */
bool ref[TREES];       /* files/.ref is there */
bool file[TREES * 2];  /* its content, two files */
byte readers[TREES];   /* read locks on its .ref */
byte writer[TREES];    /* who has the write lock, pid + 1 */
byte opened[TREES];    /* descriptors of its .ref, also without a lock */
byte mounts[TREES];    /* mounts of it */
bool pinned[TREES];    /* keep */
bool pinTold[TREES];   /* "berth pin" has said so */
bool deferred[TREES];
bool trashed[TREES];   /* in the trash, or exchanged into a stage */

byte at[SLOTS] = NONE; /* the tree that is listed there */
byte current = NONE;   /* the slot that the link names */
byte storeLock = 0;    /* who has it, pid + 1 */
byte kills = KILLS;
byte running = 0;      /* processes that have not ended */
bool killed = false;
bool turnedAway = false; /* a reader had its lock, and let go because of the mark */

#define WHOLE(t) (ref[t] && file[2*(t)] && file[2*(t)+1])
#define CONTENT(t) (file[2*(t)] && file[2*(t)+1])

/* What holds at every instant. */
#define LISTED_WHOLE(s) (at[s] == NONE || WHOLE(at[s]))
#define CURRENT_LISTED (current == NONE || at[current] != NONE)

active proctype monitor() {
end:
	atomic {
		!(LISTED_WHOLE(0) && LISTED_WHOLE(1) && CURRENT_LISTED) -> assert(false)
	}
}

/* A step may be the last. */
#define MAYDIE if :: kills > 0 -> kills--; killed = true; goto dead :: skip fi

inline lockStore() { atomic { storeLock == 0 -> storeLock = _pid + 1 } }
inline unlockStore() { atomic { assert(storeLock == _pid + 1); storeLock = 0 } }

inline tryRead(t, ok) {
	atomic { if :: writer[t] == 0 -> readers[t]++; ok = true :: else -> ok = false fi }
}
inline tryWrite(t, ok) {
	atomic { if :: writer[t] == 0 && readers[t] == 0 -> writer[t] = _pid + 1; ok = true :: else -> ok = false fi }
}

/* ---- readers ---- */

proctype ownReader(byte slot; bool byName; bool supervised) {
	byte t = NONE; byte s = slot; bool open = false; bool ok = false;
	MAYDIE;
	atomic { if :: byName -> s = current :: else fi }
	if :: s == NONE -> goto out :: else fi;
	atomic { t = at[s]; }                                    /* resolve */
	if :: t == NONE -> goto out :: else fi;
	atomic { if :: ref[t] -> opened[t]++; open = true :: else fi } /* open .ref in it */
	if :: !open -> goto out :: else fi;
	MAYDIE;
	tryRead(t, ok);
	if :: !ok -> goto out :: else fi;
#ifndef MUT_NO_SECOND_LOOK
	if :: at[s] != t -> goto out :: else fi;
#endif
	if :: deferred[t] -> turnedAway = true; goto out :: else fi;
	MAYDIE;
	assert(CONTENT(t));
	MAYDIE;
	assert(CONTENT(t));                                      /* for as long as it runs */
	if
	:: supervised ->
		bool marked = false;
#ifdef MUT_SUPERVISOR_LOOKS_FIRST
		atomic { marked = deferred[t] && at[s] == t }
#endif
		atomic { readers[t]--; opened[t]--; ok = false; open = false }
		MAYDIE;
#ifndef MUT_SUPERVISOR_LOOKS_FIRST
		atomic { marked = deferred[t] && at[s] == t }
#endif
		if :: marked -> atomic { running++; run collector(s) } :: else fi
	:: else
	fi;
dead:
out:
	atomic {
		if :: ok -> readers[t]-- :: else fi;
		if :: open -> opened[t]-- :: else fi;
		running--
	}
}

proctype mountingReader(byte slot) {
	byte t = NONE; bool mounted = false; bool open = false; bool ok = false;
	MAYDIE;
	atomic { t = at[slot]; if :: t != NONE -> mounts[t]++; mounted = true :: else fi }
	if :: !mounted -> goto out :: else fi;
	MAYDIE;
	atomic { if :: ref[t] -> opened[t]++; open = true :: else fi }
	if :: !open -> goto out :: else fi;                      /* refuses to start */
	MAYDIE;
	tryRead(t, ok);
	if :: !ok -> goto out :: else fi;
	assert(CONTENT(t));
	MAYDIE;
	assert(CONTENT(t));
dead:
out:
	atomic {
		if :: ok -> readers[t]-- :: else fi;
		if :: open -> opened[t]-- :: else fi;
		if :: mounted -> mounts[t]-- :: else fi;
		running--
	}
}

proctype openingReader(byte slot) {
	byte t = NONE; bool open = false; bool ok = false; bool whole;
	MAYDIE;
	atomic {
		t = at[slot];
		if :: t != NONE && ref[t] -> opened[t]++; open = true :: else fi
	}
	if :: !open -> goto out :: else fi;
	MAYDIE;
	atomic {
		if
		:: writer[t] == 0 ->
			readers[t]++; ok = true;
			/* Between open and lock a collector can be killed: then it finds
			   nothing, and nothing is deleted under it. */
			whole = CONTENT(t);
			assert(whole || killed)
		:: else
		fi
	}
	if :: !ok -> goto out :: else fi;
	assert(!whole || CONTENT(t));
	MAYDIE;
	assert(!whole || CONTENT(t));
dead:
out:
	atomic {
		if :: ok -> readers[t]-- :: else fi;
		if :: open -> opened[t]-- :: else fi;
		running--
	}
}

proctype slowReader(byte slot) {
	byte t = NONE; bool ok = false;
	atomic { t = at[slot] }
	if :: t == NONE -> goto out :: else fi;
	MAYDIE;
	atomic {
		if :: ref[t] && writer[t] == 0 -> opened[t]++; readers[t]++; ok = true :: else fi
	}
	if :: !ok -> goto out :: else fi;
	assert(CONTENT(t));
	MAYDIE;
	assert(CONTENT(t));
dead:
out:
	atomic { if :: ok -> readers[t]--; opened[t]-- :: else fi; running-- }
}

/* ---- those who delete ---- */

/* Waits until nobody else has .ref open or the tree mounted, or gives up: busy. */
#define OTHERS(t, own) (opened[t] > own || mounts[t] > 0)

inline deleteTree(t) {
#ifdef MUT_REF_LAST
	file[2*t] = false; MAYDIE; file[2*t+1] = false; MAYDIE; ref[t] = false;
#else
	ref[t] = false; MAYDIE; file[2*t] = false; MAYDIE; file[2*t+1] = false;
#endif
	trashed[t] = false
}

proctype collector(byte slot) {
	byte t = NONE; bool open = false; bool ok = false; bool store = false;
#ifdef MUT_CURRENT_BEFORE_LOCK
	bool notCurrent = (current != slot);
#endif
#ifdef MUT_PIN_BEFORE_LOCK
	bool wasPinned;
#endif
	atomic { t = at[slot] }
	if :: t == NONE -> goto out :: else fi;
	if :: mounts[t] > 0 -> goto out :: else fi;              /* the first look, a kindness */
	MAYDIE;
	lockStore(); store = true;
	MAYDIE;
	if :: at[slot] != t -> goto out :: else fi;
#ifdef MUT_CURRENT_BEFORE_LOCK
	if :: !notCurrent -> goto out :: else fi;
#else
	if :: current == slot -> goto out :: else fi;
#endif
#ifdef MUT_PIN_BEFORE_LOCK
	wasPinned = pinned[t];
	if :: wasPinned -> goto out :: else fi;
#endif
	atomic { if :: ref[t] -> opened[t]++; open = true :: else fi }
	if :: !open -> goto out :: else fi;
	tryWrite(t, ok);
	if :: !ok -> goto out :: else fi;
#ifndef MUT_PIN_BEFORE_LOCK
	if :: pinned[t] -> goto out :: else fi;
#endif
	MAYDIE;
	assert(!pinTold[t]);
	atomic { at[slot] = NONE; trashed[t] = true }            /* rename, sync */
	MAYDIE;
	unlockStore(); store = false;
#ifndef MUT_NO_PROC_LOOK
	if
	:: !OTHERS(t, 1)
	:: OTHERS(t, 1) -> goto out                              /* left in the trash, whole */
	fi;
#endif
	MAYDIE;
#ifdef MUT_UNLOCK_EARLY
	atomic { writer[t] = 0; ok = false }
#endif
	deleteTree(t);
dead:
out:
	atomic {
		if :: ok -> writer[t] = 0 :: else fi;
		if :: open -> opened[t]-- :: else fi;
		if :: store && storeLock == _pid + 1 -> storeLock = 0 :: else fi;
		running--
	}
}

proctype drainer() {
	byte t = 0; bool open = false; bool ok = false; bool lockable;
	do
	:: t < TREES ->
		if
		:: trashed[t] ->
			MAYDIE;
			atomic { lockable = ref[t]; if :: lockable -> opened[t]++; open = true :: else fi }
			if
			:: lockable ->
				tryWrite(t, ok);
				if :: !ok || !trashed[t] -> goto next :: else fi
			:: else
			fi;
#ifndef MUT_DRAIN_NO_LOOK
			if
			:: lockable && OTHERS(t, 1) -> goto next
			:: !lockable && OTHERS(t, 0) -> goto next
			:: (lockable && !OTHERS(t, 1)) || (!lockable && !OTHERS(t, 0))
			fi;
#endif
			MAYDIE;
			deleteTree(t);
next:
			atomic {
				if :: ok -> writer[t] = 0; ok = false :: else fi;
				if :: open -> opened[t]--; open = false :: else fi
			}
		:: else
		fi;
		t++
	:: else -> break
	od;
	t = 0;
dead:
	atomic {
		if :: t < TREES && ok -> writer[t] = 0 :: else fi;
		if :: t < TREES && open -> opened[t]-- :: else fi;
		running--
	}
}

/* ---- those who change what is listed ---- */

proctype installer(byte slot; byte t; bool activate) {
	bool store = false;
	file[2*t] = true; MAYDIE; file[2*t+1] = true; MAYDIE; ref[t] = true; /* in the stage */
	lockStore(); store = true;
	MAYDIE;
	if :: at[slot] != NONE -> goto out :: else fi;
	at[slot] = t;
	MAYDIE;
#ifdef MUT_TWO_HOLDS
	unlockStore(); lockStore();
#endif
	if :: activate || current == NONE -> current = slot :: else fi;
dead:
out:
	atomic { if :: store && storeLock == _pid + 1 -> storeLock = 0 :: else fi; running-- }
}

proctype switcher(byte slot) {
	byte t = NONE; bool store = false; bool open = false; bool ok = false;
	lockStore(); store = true;
	MAYDIE;
	t = at[slot];
	if :: t == NONE -> goto out :: else fi;
	atomic { if :: ref[t] -> opened[t]++; open = true :: else fi }
	if :: !open -> goto out :: else fi;
	tryRead(t, ok);
	if :: !ok -> goto out :: else fi;
	if :: at[slot] != t || deferred[t] -> goto out :: else fi;
	MAYDIE;
	current = slot;
dead:
out:
	atomic {
		if :: ok -> readers[t]-- :: else fi;
		if :: open -> opened[t]-- :: else fi;
		if :: store && storeLock == _pid + 1 -> storeLock = 0 :: else fi;
		running--
	}
}

proctype pinner(byte slot) {
	byte t = NONE; bool open = false; bool ok = false;
	atomic { t = at[slot] }
	if :: t == NONE -> goto out :: else fi;
#ifndef MUT_PIN_NO_LOCK
	atomic { if :: ref[t] -> opened[t]++; open = true :: else fi }
	if :: !open -> goto out :: else fi;
	tryRead(t, ok);
	if :: !ok -> goto out :: else fi;
	if :: at[slot] != t -> goto out :: else fi;
#endif
	MAYDIE;
	pinned[t] = true;
	MAYDIE;
	pinTold[t] = true;
dead:
out:
	atomic {
		if :: ok -> readers[t]-- :: else fi;
		if :: open -> opened[t]-- :: else fi;
		running--
	}
}

proctype deferrer(byte slot) {
	byte t = NONE; bool store = false;
#ifdef MUT_MARK_AFTER
	atomic { running++; run collector(slot) }
	/* Its attempt has ended before the mark is written. */
	running == 2 || running == 1 || at[slot] == NONE || readers[at[slot]] > 0;
#endif
	lockStore(); store = true;
	MAYDIE;
	t = at[slot];
	if :: t == NONE || current == slot || pinned[t] -> goto out :: else fi;
	deferred[t] = true;
	unlockStore(); store = false;
	MAYDIE;
#ifndef MUT_MARK_AFTER
	atomic { running++; run collector(slot) }
#endif
dead:
out:
	atomic { if :: store && storeLock == _pid + 1 -> storeLock = 0 :: else fi; running-- }
}

proctype replacer(byte slot; byte new) {
	byte t = NONE; bool store = false; bool open = false; bool ok = false;
	file[2*new] = true; file[2*new+1] = true; ref[new] = true;  /* in the stage */
	lockStore(); store = true;
	MAYDIE;
	t = at[slot];
	if :: t == NONE -> goto out :: else fi;
	atomic { if :: ref[t] -> opened[t]++; open = true :: else fi }
	if :: !open -> goto out :: else fi;
	tryWrite(t, ok);
	if :: !ok -> goto out :: else fi;
	unlockStore(); store = false;
	if :: OTHERS(t, 1) -> goto out :: !OTHERS(t, 1) fi;
	pinned[new] = pinned[t]; pinTold[new] = pinTold[t];      /* adopted: a pin takes a read lock */
	MAYDIE;
	lockStore(); store = true;
	MAYDIE;
	if :: at[slot] != t -> goto out :: else fi;
#ifdef MUT_TWO_RENAMES
	atomic { at[slot] = NONE; trashed[t] = true }
	MAYDIE;
	at[slot] = new;
#else
	atomic { at[slot] = new; trashed[t] = true }             /* exchange */
#endif
	MAYDIE;
	unlockStore(); store = false;
#ifndef MUT_NO_SETTLE_AFTER_EXCHANGE
	if :: OTHERS(t, 1) -> goto out :: !OTHERS(t, 1) fi;
#endif
	MAYDIE;
	deleteTree(t);
dead:
out:
	atomic {
		if :: ok -> writer[t] = 0 :: else fi;
		if :: open -> opened[t]-- :: else fi;
		if :: store && storeLock == _pid + 1 -> storeLock = 0 :: else fi;
		running--
	}
}

/* ---- who takes part ---- */

#define START(p) running++; run p

inline populate() {
	byte i = 0;
	do :: i < SLOTS -> ref[i] = true; file[2*i] = true; file[2*i+1] = true; at[i] = i; i++ :: else -> break od;
	current = 0
}

init {
	atomic {
		populate();
#if CONFIG == 1 /* every kind of reader against a collection and a drain */
		START(ownReader(1, false, false)); START(mountingReader(1)); START(collector(1)); START(drainer());
#elif CONFIG == 2
		START(openingReader(1)); START(ownReader(1, false, false)); START(collector(1)); START(drainer());
#elif CONFIG == 3
		START(slowReader(1)); START(openingReader(1)); START(collector(1)); START(drainer());
#elif CONFIG == 4 /* what is listed and current changes */
		START(switcher(1)); START(ownReader(0, true, false)); START(collector(0)); START(collector(1)); START(drainer());
#elif CONFIG == 5
		at[1] = NONE; ref[1] = false; file[2] = false; file[3] = false;
		START(installer(1, 2, true)); START(collector(1)); START(switcher(0)); START(ownReader(0, true, false)); START(drainer());
#elif CONFIG == 6 /* two that collect, two that drain */
		START(collector(1)); START(collector(1)); START(drainer()); START(drainer());
#elif CONFIG == 12
		START(collector(1)); START(collector(0)); START(drainer()); START(ownReader(1, false, false));
#elif CONFIG == 7 /* marks */
		START(pinner(1)); START(collector(1)); START(switcher(1)); START(drainer());
#elif CONFIG == 8
		START(deferrer(1)); START(ownReader(1, false, true));
#elif CONFIG == 9 /* replaced in place */
		START(replacer(1, 2)); START(openingReader(1)); START(ownReader(1, false, false)); START(drainer());
#elif CONFIG == 10
		START(replacer(0, 2)); START(mountingReader(0)); START(slowReader(0)); START(collector(1));
#elif CONFIG == 11
		START(replacer(1, 2)); START(collector(1)); START(pinner(1)); START(switcher(1));
#endif
	}
	/* When all have ended, a last drain leaves nothing in the trash. */
	atomic { running == 0 -> kills = 0; START(drainer()) }
	atomic {
		running == 0 ->
		assert(storeLock == 0);
		byte n = 0;
		do
		:: n < TREES ->
			assert(readers[n] == 0 && writer[n] == 0 && opened[n] == 0 && mounts[n] == 0);
			assert(!trashed[n]);
			n++
		:: else -> break
		od;
		/* What was condemned, and nobody uses, is gone, unless somebody was
		   killed, or a reader that the mark turned away stood in the way for a
		   moment: then it is the next collection's. */
		n = 0;
		do
		:: n < SLOTS -> assert(killed || turnedAway || at[n] == NONE || !deferred[at[n]]); n++
		:: else -> break
		od
	}
}
