package gc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"berth/store"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

// v describes a version: its number, how long ago it was installed and became
// current ("-": never), and its marks.
func v(version string, installed time.Duration, activated time.Duration, marks ...string) Version {
	out := Version{Ref: store.Ref{Name: "r", Version: version}, Installed: now.Add(-installed)}
	if activated >= 0 {
		out.Activated = now.Add(-activated)
	}
	for _, m := range marks {
		switch m {
		case "current":
			out.Current = true
		case "pinned":
			out.Pinned = true
		case "condemned":
			out.Condemned = true
		case "in-use":
			out.InUse = true
		case "doubt":
			out.Doubt = "something cannot be seen"
		case "spared":
			out.Spared = true
		default:
			panic(m)
		}
	}
	return out
}

const never = -1 * time.Second

// alone gives every version bytes of its own.
func alone(bytes ...int64) []Extent {
	var list []Extent
	for i, b := range bytes {
		list = append(list, Extent{b, []int{i}})
	}
	return list
}

func TestPlan(t *testing.T) {
	cur := v("9", 20*day, 1*day, "current")
	for _, c := range []struct {
		name     string
		policy   Policy
		limits   Limits
		versions []Version
		extents  []Extent
		free     int64
		want     string // ACTION:RULE of each version
	}{
		{"current stays", Policy{}, Limits{}, []Version{cur}, nil, 0, "keep:current"},
		{"surplus goes", Policy{}, Limits{}, []Version{cur, v("1", 20*day, 10*day)}, nil, 0, "keep:current remove:surplus"},
		{"pinned stays", Policy{}, Limits{}, []Version{cur, v("1", 20*day, 10*day, "pinned")}, nil, 0, "keep:current keep:pinned"},
		{"in use is deferred", Policy{}, Limits{}, []Version{cur, v("1", 20*day, 10*day, "in-use")}, nil, 0, "keep:current defer:surplus"},
		{"in doubt is kept", Policy{}, Limits{}, []Version{cur, v("1", 20*day, 10*day, "doubt")}, nil, 0, "keep:current keep:evidence"},
		{"in use beats doubt", Policy{}, Limits{}, []Version{cur, v("1", 20*day, 10*day, "in-use", "doubt")}, nil, 0, "keep:current defer:surplus"},
		{"grace", Policy{Grace: day}, Limits{}, []Version{cur, v("1", 23*time.Hour, never), v("2", 24*time.Hour, never)}, nil, 0, "keep:current keep:grace remove:surplus"},
		{"keep the most recently current", Policy{Keep: 2}, Limits{},
			[]Version{cur, v("1", 20*day, 4*day), v("2", 20*day, 2*day), v("3", 20*day, 3*day), v("4", 2*day, never)}, nil, 0,
			"keep:current remove:surplus keep:keep keep:keep remove:surplus"},
		{"pinned and condemned take no place", Policy{Keep: 1}, Limits{},
			[]Version{cur, v("1", 20*day, 2*day, "pinned"), v("2", 20*day, 3*day, "condemned"), v("3", 20*day, 4*day), v("4", 20*day, 5*day)}, nil, 0,
			"keep:current keep:pinned remove:deferred keep:keep remove:surplus"},
		{"those in use take a place", Policy{Keep: 1}, Limits{},
			[]Version{cur, v("1", 20*day, 2*day, "in-use"), v("2", 20*day, 3*day)}, nil, 0, "keep:current keep:keep remove:surplus"},
		{"keep-newer by activation", Policy{KeepNewer: 5 * day}, Limits{},
			[]Version{cur, v("1", 20*day, 4*day), v("2", 20*day, 6*day)}, nil, 0, "keep:current keep:keep-newer remove:surplus"},
		{"keep-newer by installation", Policy{KeepNewer: 5 * day}, Limits{},
			[]Version{cur, v("1", 4*day, never), v("2", 6*day, never)}, nil, 0, "keep:current keep:keep-newer remove:surplus"},
		{"keep or keep-newer", Policy{Keep: 1, KeepNewer: 5 * day}, Limits{},
			[]Version{cur, v("1", 20*day, 4*day), v("2", 20*day, 3*day), v("3", 20*day, 8*day)}, nil, 0,
			"keep:current keep:keep-newer keep:keep remove:surplus"},
		{"condemned by hand beats retention", Policy{Keep: 3, KeepNewer: 30 * day, Grace: 30 * day}, Limits{},
			[]Version{cur, v("1", 20*day, 4*day, "condemned")}, nil, 0, "keep:current remove:deferred"},
		{"condemned and in use", Policy{}, Limits{}, []Version{cur, v("1", 20*day, 4*day, "condemned", "in-use")}, nil, 0, "keep:current defer:deferred"},
		{"pinned beats condemned", Policy{}, Limits{}, []Version{cur, v("1", 20*day, 4*day, "condemned", "pinned")}, nil, 0, "keep:current keep:pinned"},
		{"max-size takes the least recently used", Policy{Keep: 9}, Limits{MaxSize: 25},
			[]Version{cur, v("1", 20*day, 4*day), v("2", 20*day, 6*day), v("3", 20*day, 5*day)}, alone(10, 10, 10, 10), 0,
			"keep:current keep:keep remove:max-size remove:max-size"},
		{"max-size that is met takes nothing", Policy{Keep: 9}, Limits{MaxSize: 40},
			[]Version{cur, v("1", 20*day, 4*day)}, alone(20, 20), 0, "keep:current keep:keep"},
		{"surplus counts towards max-size", Policy{Keep: 1}, Limits{MaxSize: 20},
			[]Version{cur, v("1", 20*day, 4*day), v("2", 20*day, 6*day)}, alone(10, 10, 10), 0,
			"keep:current keep:keep remove:surplus"},
		{"min-free", Policy{Keep: 9}, Limits{MinFree: 15},
			[]Version{cur, v("1", 20*day, 4*day), v("2", 20*day, 6*day), v("3", 20*day, 5*day)}, alone(10, 10, 10, 10), 0,
			"keep:current keep:keep remove:min-free remove:min-free"},
		{"min-free beside max-size", Policy{Keep: 9}, Limits{MaxSize: 30, MinFree: 15},
			[]Version{cur, v("1", 20*day, 4*day), v("2", 20*day, 6*day), v("3", 20*day, 5*day)}, alone(10, 10, 10, 10), 0,
			"keep:current keep:keep remove:max-size remove:min-free"},
		{"protection beats pressure", Policy{Keep: 9, Grace: day}, Limits{MinFree: 1 << 40},
			[]Version{cur, v("1", 20*day, 4*day, "pinned"), v("2", 20*day, 6*day, "in-use"), v("3", time.Hour, never), v("4", 20*day, 7*day, "doubt")}, alone(10, 10, 10, 10, 10), 0,
			"keep:current keep:pinned keep:keep keep:grace keep:keep"},
		{"pressure takes what keep-newer retains", Policy{KeepNewer: 30 * day}, Limits{MaxSize: 10},
			[]Version{cur, v("1", 20*day, 4*day)}, alone(10, 10), 0, "keep:current remove:max-size"},
		{"shared space is freed by the last owner", Policy{Keep: 9}, Limits{MaxSize: 25},
			[]Version{cur, v("1", 20*day, 6*day), v("2", 20*day, 5*day), v("3", 20*day, 4*day)},
			[]Extent{{10, []int{0}}, {20, []int{1, 2}}, {5, []int{3}}}, 0,
			"keep:current remove:max-size remove:max-size keep:keep"},
		{"what was rolled back from stays, the greatest", Policy{}, Limits{},
			[]Version{cur, v("10", 20*day, 2*day), v("11", 20*day, 3*day), v("12", 20*day, never), v("8", 20*day, 2*day)}, nil, 0,
			"keep:current remove:surplus keep:rolled-back remove:surplus remove:surplus"},
		{"pressure takes what was rolled back from", Policy{}, Limits{MaxSize: 10},
			[]Version{cur, v("10", 20*day, 2*day)}, alone(10, 10), 0, "keep:current remove:max-size"},
		{"what is on its way to be current was not rolled back from", Policy{}, Limits{},
			[]Version{cur, v("10", 20*day, time.Hour)}, nil, 0, "keep:current remove:surplus"},
		{"spared versions count and stay", Policy{}, Limits{MaxSize: 15},
			[]Version{cur, v("1", 20*day, 6*day, "spared"), v("2", 20*day, 5*day)}, alone(10, 10, 10), 0,
			"keep:current keep:not-named remove:surplus"},
	} {
		t.Run(c.name, func(t *testing.T) {
			used := int64(0)
			for _, e := range c.extents {
				used += e.Bytes
			}
			plan := Plan(Facts{
				Now: now, Versions: c.versions, Policy: func(string) Policy { return c.policy },
				Limits: c.limits, Extents: c.extents, Used: used, Free: c.free,
			})
			if got := brief(plan); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			for _, d := range plan {
				if d.Reason == "" {
					t.Errorf("%s: no reason", d.Ref)
				}
			}
		})
	}
}

func brief(plan []Decision) string {
	var words []string
	for _, d := range plan {
		words = append(words, fmt.Sprintf("%s:%s", d.Action, d.Rule))
	}
	return strings.Join(words, " ")
}

func TestPlanCountsWhatRemovingFrees(t *testing.T) {
	plan := Plan(Facts{
		Now:      now,
		Versions: []Version{v("9", 20*day, day, "current"), v("1", 20*day, 6*day), v("2", 20*day, 5*day)},
		Policy:   func(string) Policy { return Policy{} },
		Extents:  []Extent{{1, []int{0}}, {2, []int{1}}, {4, []int{2}}, {8, []int{1, 2}}, {16, []int{0, 1, 2}}},
	})
	if plan[1].Frees != 2 || plan[2].Frees != 12 {
		t.Errorf("freed %d and %d, want 2 and 12", plan[1].Frees, plan[2].Frees)
	}
}

// Every runtime has a policy of its own.
func TestPlanGoesByTheRuntimesPolicy(t *testing.T) {
	a, b := v("1", 20*day, 6*day), v("1", 20*day, 6*day)
	a.Ref.Name, b.Ref.Name = "a", "b"
	plan := Plan(Facts{Now: now, Versions: []Version{a, b}, Policy: func(name string) Policy {
		if name == "a" {
			return Policy{Keep: 1}
		}
		return Policy{}
	}})
	if got := brief(plan); got != "keep:keep remove:surplus" {
		t.Error(got)
	}
}

func drawFacts(t *rapid.T) Facts {
	n := rapid.IntRange(0, 12).Draw(t, "versions")
	f := Facts{Now: now, Free: rapid.Int64Range(0, 100).Draw(t, "free")}
	policies := map[string]Policy{}
	span := func(label string) time.Duration {
		return time.Duration(rapid.IntRange(0, 40).Draw(t, label)) * day
	}
	for _, name := range []string{"a", "b", "c"} {
		policies[name] = Policy{Keep: rapid.IntRange(0, 4).Draw(t, "keep"), KeepNewer: span("keep-newer"), Grace: span("grace")}
	}
	f.Policy = func(name string) Policy { return policies[name] }
	f.Limits = Limits{MaxSize: rapid.Int64Range(0, 100).Draw(t, "max-size"), MinFree: rapid.Int64Range(0, 150).Draw(t, "min-free")}
	for i := range n {
		v := Version{
			Ref:       store.Ref{Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"), Version: fmt.Sprint(i)},
			Current:   rapid.IntRange(0, 5).Draw(t, "current") == 0,
			Pinned:    rapid.IntRange(0, 5).Draw(t, "pinned") == 0,
			Condemned: rapid.IntRange(0, 5).Draw(t, "condemned") == 0,
			InUse:     rapid.IntRange(0, 3).Draw(t, "in use") == 0,
			Spared:    rapid.IntRange(0, 8).Draw(t, "spared") == 0,
			Installed: now.Add(-span("installed")),
		}
		if rapid.Bool().Draw(t, "was current") {
			v.Activated = now.Add(-span("activated"))
		}
		if rapid.IntRange(0, 5).Draw(t, "doubt") == 0 {
			v.Doubt = "doubt"
		}
		f.Versions = append(f.Versions, v)
		bytes := rapid.Int64Range(0, 30).Draw(t, "bytes")
		f.Extents = append(f.Extents, Extent{bytes, []int{i}})
		f.Used += bytes
	}
	if n > 1 {
		f.Extents = append(f.Extents, Extent{7, []int{0, n - 1}})
		f.Used += 7
	}
	return f
}

func TestPlanNeverRemovesWhatIsProtected(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		for i, d := range Plan(f) {
			v := f.Versions[i]
			inGrace := !v.Condemned && now.Sub(v.Installed) < f.Policy(v.Ref.Name).Grace
			if d.Action == Remove && (v.Current || v.Pinned || v.InUse || v.Spared || v.Doubt != "" || inGrace) {
				t.Fatalf("%+v is to be removed by %s", v, d.Rule)
			}
			if d.Ref != v.Ref || d.Reason == "" || d.Rule == "" {
				t.Fatalf("the decision about %s is %+v", v.Ref, d)
			}
		}
	})
}

func TestPlanDoesNotDependOnTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		plan := Plan(f)
		order := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)).Perm(len(f.Versions))
		g := f
		g.Versions, g.Extents = nil, nil
		place := make([]int, len(order))
		for to, from := range order {
			g.Versions = append(g.Versions, f.Versions[from])
			place[from] = to
		}
		for _, e := range f.Extents {
			moved := Extent{Bytes: e.Bytes}
			for _, o := range e.Owners {
				moved.Owners = append(moved.Owners, place[o])
			}
			g.Extents = append(g.Extents, moved)
		}
		slices.Reverse(g.Extents)
		for to, d := range Plan(g) {
			if d != plan[order[to]] {
				t.Fatalf("%+v became %+v in another order", plan[order[to]], d)
			}
		}
	})
}

// Removing fewer under pressure would not satisfy it.
func TestPressureTakesTheShortestPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		plan := Plan(f)
		freed := int64(0)
		pressed := 0
		for i, d := range plan {
			freed += d.Frees
			if d.Rule == RuleMaxSize || d.Rule == RuleMinFree {
				pressed++
				for j, e := range plan {
					younger := older(&f.Versions[j], &f.Versions[i]) < 0
					if younger && e.Action == Keep && (e.Rule == RuleKeep || e.Rule == RuleKeepNewer) && !f.Versions[j].InUse && f.Versions[j].Doubt == "" {
						t.Fatalf("%s went before %s, which was used earlier", d.Ref, e.Ref)
					}
				}
			}
		}
		if pressed == 0 {
			return
		}
		met := func(bytes int64) bool {
			return (f.Limits.MaxSize == 0 || f.Used-bytes <= f.Limits.MaxSize) && (f.Limits.MinFree == 0 || f.Free+bytes >= f.Limits.MinFree)
		}
		// The last that was taken, in order of age, was still needed.
		youngest := -1
		for i, d := range plan {
			if (d.Rule == RuleMaxSize || d.Rule == RuleMinFree) && (youngest < 0 || older(&f.Versions[i], &f.Versions[youngest]) > 0) {
				youngest = i
			}
		}
		if met(freed - plan[youngest].Frees) {
			t.Fatalf("%s went although the limits were met", plan[youngest].Ref)
		}
	})
}

func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := Facts{Now: now, Policy: func(string) Policy { return Policy{Keep: 2, Grace: time.Hour} }}
			for i := range n {
				x := v(fmt.Sprint(i), 20*day, time.Duration(i)*time.Minute)
				x.Ref.Name = fmt.Sprint("r", i%10)
				f.Versions = append(f.Versions, x)
			}
			for b.Loop() {
				Plan(f)
			}
		})
	}
}
