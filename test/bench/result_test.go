package main

import (
	"testing"
	"time"
)

func took(walls ...time.Duration) measured {
	var m measured
	for i, w := range walls {
		m.samples = append(m.samples, sample{Wall: w, CPU: w / 2, Memory: int64(i+1) << 20})
	}
	return m
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		walls []time.Duration
		want  time.Duration
	}{
		{[]time.Duration{7}, 7},
		{[]time.Duration{9, 1}, 5},
		{[]time.Duration{9, 1, 2}, 2},
		{[]time.Duration{9, 1, 2, 4}, 3},
	} {
		if got := took(c.walls...).wall(); got != c.want {
			t.Errorf("median of %v is %d, want %d", c.walls, got, c.want)
		}
		if c.walls[0] == 9 && took(c.walls...).walls()[0] != 9 {
			t.Error("the samples have been sorted in place")
		}
	}
}

func TestFiguresOfSamples(t *testing.T) {
	m := took(2*time.Second, 8*time.Second, 4*time.Second)
	if m.cpu() != 2*time.Second {
		t.Errorf("CPU %s", m.cpu())
	}
	if m.memory() != 3<<20 {
		t.Errorf("memory %d, want the most of all", m.memory())
	}
}

func TestFasterTakesTheSlowestOfTheOthers(t *testing.T) {
	r := faster("a", "b", 1, took(3*time.Second), took(time.Second), took(6*time.Second), took(2*time.Second))
	if r.ratio() != 0.5 {
		t.Errorf("ratio %v, want 0.5", r.ratio())
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		own, other, target float64
		want               string
	}{
		{1, 2, 0.5, "ok"}, // at most
		{1.01, 2, 0.5, "missed"},
		{5, 2, 0, "–"},
	} {
		if got := (row{own: c.own, other: c.other, target: c.target}).verdict(); got != c.want {
			t.Errorf("%v: %s, want %s", c, got, c.want)
		}
	}
}

func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		seconds(0.00312): "3.12 ms", seconds(12.345): "12.35 s", mib(3 << 19): "1.5 MiB",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
