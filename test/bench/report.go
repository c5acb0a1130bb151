package main

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is all that was found.
type report struct {
	machine     []fact
	date        time.Time
	rounds      int
	launches    int
	memoryFloor int64 // less than that cannot be told from it
	rows        []row
	details     []measured
}

func (r *report) add(details []measured, rows ...row) {
	r.details = append(r.details, details...)
	r.rows = append(r.rows, rows...)
}

var rowHeads = []string{"work", "against", "berth", "other", "ratio", "target", "verdict"}

func (r row) cells() []string {
	target := "–"
	if r.target != 0 {
		target = fmt.Sprintf("%.2f", r.target)
	}
	return []string{r.work, r.against, r.format(r.own), r.format(r.other), fmt.Sprintf("%.2f", r.ratio()), target, r.verdict()}
}

var detailHeads = []string{"rows", "command", "wall", "least", "most", "CPU", "peak memory"}

func (m measured) cells() []string {
	return []string{m.group, "`" + m.command + "`", seconds(m.wall().Seconds()), seconds(slices.Min(m.walls()).Seconds()),
		seconds(slices.Max(m.walls()).Seconds()), seconds(m.cpu().Seconds()), mib(m.memory())}
}

// summary counts the verdicts.
func (r *report) summary() string {
	var ok, missed int
	for _, row := range r.rows {
		switch row.verdict() {
		case "ok":
			ok++
		case "missed":
			missed++
		}
	}
	return fmt.Sprintf("%d targets met, %d missed", ok, missed)
}

// text is for a terminal.
func (r *report) text(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(rowHeads, "\t"))
	for _, row := range r.rows {
		fmt.Fprintln(table, strings.Join(row.cells(), "\t"))
	}
	fmt.Fprintln(table)
	fmt.Fprintln(table, strings.Join(detailHeads, "\t"))
	for _, m := range r.details {
		fmt.Fprintln(table, strings.ReplaceAll(strings.Join(m.cells(), "\t"), "`", ""))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.summary())
	return err
}

// write writes the page and its picture. The page is written by hand where it
// says what was measured how, and by the figures elsewhere.
func (r *report) write(page, picture string) error {
	if err := os.WriteFile(page, r.markdown(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(picture, plot(r.rows), 0o644)
}

func (r *report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Benchmarks

This page is made by `+"`make bench`"+`, which measures berth beside the programs that people use for the same work.
Last made %s, with %s. Lower is better: a ratio is berth's figure divided by the other's.

![ratios, with their targets](benchmarks.svg)

`, r.date.Format("2 January 2006"), r.counted())
	markdownTable(&b, rowHeads, func(yield func([]string) bool) {
		for _, row := range r.rows {
			if !yield(row.cells()) {
				return
			}
		}
	})
	fmt.Fprintf(&b, `
%s.

## How

- The runtimes are two releases of one Debian, with and without its updates: what desktop programs and games want.
- The programs take turns: A B C A B C. One round before does not count. Figures are medians, except memory, which is
  the most that any run had.
- Both sides give the same promise: `+"`--no-sync`"+` is compared with programs that do not sync, and berth's default,
  which does, with `+"`sync -f`"+` afterwards, or with Flatpak, which syncs by itself. Only `+"`remove`"+` promises more than
  `+"`rm -rf`"+`: it syncs what it renames.
- Archives are in the page cache. What a run has written goes to the disk before the next one starts. Every run has a new
  directory, and nothing is deleted before all rounds are over, and a minute has gone by before the next comparison: for
  that long an ext4 without a journal takes several times as long to make files where some were deleted.
- A virtual machine is given memory by its host when it first touches it, and a run that comes by such memory takes up to
  twice as long, whoever's it is: least and most, below, tell more than a ratio where they are far apart.
- berth is built as it is released. It has an empty configuration and a store of its own.
- Time is taken around the start and the end of a process. CPU is user and system time of the process and its children,
  memory (resident) that of the largest of them. Memory below %s cannot be told from that.
- Before an upgrade or a removal, the older version is installed, which is not timed.
- Changed files are those of the newer archive that have no equal in the older one by content, mode and time. Disk space
  is what the file system has allocated, each file counted once.
- Flatpak installs the same trees for one user, from a repository on the same file system. OSTree pulls the same commits
  into a repository of its own and checks them out by hard links.
- A missed target is a row here, and no failure. Two targets compare unlike work: Flatpak reads only what has changed, but
  of a plain archive all has to be decompressed and hashed; and `+"`cp -al`"+` writes no content, but an upgrade what has
  changed. The rows without a target beside them are the least that other programs need for it.

`, r.summary(), mib(r.memoryFloor))
	markdownTable(&b, []string{"machine", ""}, func(yield func([]string) bool) {
		for _, f := range r.machine {
			if !yield([]string{f.what, f.value}) {
				return
			}
		}
	})
	b.WriteString(`
## Every command

`)
	markdownTable(&b, detailHeads, func(yield func([]string) bool) {
		for _, m := range r.details {
			if !yield(m.cells()) {
				return
			}
		}
	})
	b.WriteString(`
## Once more

    make bench

It needs the programs above, some ten times the space of a runtime, and a quiet machine. The first time it makes the
runtimes and what is derived from them, which takes longer than measuring. ` + "`go run ./test/bench --help`" + ` says how to
measure a few rows, in more rounds, or on another file system:

    go run ./test/bench -rows zst,exec -n 9 -fs /mnt
`)
	return b.Bytes()
}

func (r *report) counted() string {
	s := "s"
	if r.rounds == 1 {
		s = ""
	}
	return fmt.Sprintf("%d round%s, and %d launches for what is short", r.rounds, s, r.launches)
}

// markdownTable puts figures, which are all columns but the first two, to the
// right.
func markdownTable(b *bytes.Buffer, heads []string, lines iter.Seq[[]string]) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(heads, " | "))
	for i := range heads {
		if i < 2 {
			b.WriteString("|---")
		} else {
			b.WriteString("|--:")
		}
	}
	b.WriteString("|\n")
	for cells := range lines {
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
	}
}
