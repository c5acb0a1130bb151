#!/usr/bin/env bash
# fuzz.sh TIME DIRECTORY:TARGET... runs each fuzz target for TIME and prints
# how many inputs it tried.
set -euo pipefail
time=$1
shift
mkdir -p build
log=build/fuzz.log

# The fuzzer of Go before 1.27 now and then takes the end of its own time for
# a failure (golang.org/issue/75804). It is one only if the target itself
# complained or an input was kept, which happens to every input that fails.
only_time_was_up() {
	[ "$(sed -n '/^--- FAIL: /,$ { /^--- FAIL: /d; /^FAIL/d; /^exit status 1$/d; p; }' "$log")" = "    context deadline exceeded" ] &&
		[ "$kept" = "$(inputs)" ]
}

inputs() {
	if [ -d "$directory/testdata/fuzz/$name" ]; then ls "$directory/testdata/fuzz/$name"; fi
}

for target; do
	directory=${target%:*} name=${target#*:}
	kept=$(inputs)
	# Minimising pays only where one input always takes the same way.
	go test "./$directory" -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 1x >"$log" 2>&1 || only_time_was_up ||
		{ cat "$log"; exit 1; }
	echo "fuzz: $target, $(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$log" | tail -n 1) inputs, 0 violations"
done
