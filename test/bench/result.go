package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A row compares two figures. The ratio of the first to the second should be
// at most the target.
type row struct {
	work, against string
	own, other    float64
	format        func(float64) string
	target        float64 // 0: for information
}

func (r row) ratio() float64 { return r.own / r.other }

func (r row) verdict() string {
	switch {
	case r.target == 0:
		return "–"
	case r.ratio() <= r.target:
		return "ok"
	default:
		return "missed"
	}
}

func seconds(s float64) string {
	if s < 0.1 {
		return fmt.Sprintf("%.2f ms", s*1000)
	}
	return fmt.Sprintf("%.2f s", s)
}

func mebibytes(b float64) string { return fmt.Sprintf("%.1f MiB", b/(1<<20)) }

func mib(b int64) string { return mebibytes(float64(b)) }

// median is the middle value, or the mean of the two in the middle.
func median[T cmp.Ordered](values []T, half func(a, b T) T) T {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return half(sorted[n/2-1], sorted[n/2])
}

func meanDuration(a, b time.Duration) time.Duration { return (a + b) / 2 }

func (m measured) walls() []time.Duration {
	var walls []time.Duration
	for _, s := range m.samples {
		walls = append(walls, s.Wall)
	}
	return walls
}

func (m measured) wall() time.Duration { return median(m.walls(), meanDuration) }

func (m measured) cpu() time.Duration {
	var all []time.Duration
	for _, s := range m.samples {
		all = append(all, s.CPU)
	}
	return median(all, meanDuration)
}

// memory is the most that any of the runs had, not the median: a peak.
func (m measured) memory() int64 {
	var most int64
	for _, s := range m.samples {
		most = max(most, s.Memory)
	}
	return most
}

// faster compares the time of own with that of the slowest of the others.
func faster(work, against string, target float64, own measured, others ...measured) row {
	slowest := slices.MaxFunc(others, func(a, b measured) int { return cmp.Compare(a.wall(), b.wall()) })
	return row{work, against, own.wall().Seconds(), slowest.wall().Seconds(), seconds, target}
}

// memoryBound is what an installation may have at most.
const memoryBound = 64 << 20

func lean(work string, m measured) row {
	return row{"peak memory of " + work, "64 MiB", float64(m.memory()), memoryBound, mebibytes, 1}
}
