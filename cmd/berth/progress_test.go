package main

import "testing"

func TestMeterLineFits(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		width       int
		done, total int64
		want        string
	}{
		{60, 0, -1, "packing 0 B"},
		{60, 92 * mib, 368 * mib, "packing [=====                ]  92.0 MiB / 368.0 MiB  25 %"},
		{60, 400 * mib, 368 * mib, "packing [=====================] 368.0 MiB / 368.0 MiB 100 %"},
		{40, 92 * mib, 368 * mib, "packing  92.0 MiB / 368.0 MiB  25 %"},
		{30, 92 * mib, 368 * mib, " 92.0 MiB / 368.0 MiB  25 %"},
		{10, 92 * mib, 368 * mib, " 92.0 MiB"},
		{1, 1, 2, ""},
		{0, 1, 2, ""},
	} {
		got := meterLine("packing", c.done, c.total, c.width)
		if got != c.want {
			t.Errorf("%d of %d in %d columns: %q, want %q", c.done, c.total, c.width, got, c.want)
		}
	}
}
