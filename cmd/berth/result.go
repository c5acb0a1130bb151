package main

import (
	"strings"
	"time"

	"berth/gc"
	"berth/store"
)

// The documents that --json prints, as docs/commands.md describes them.
type (
	resultJSON struct {
		Installed []installedVersionJSON `json:"installed,omitzero"` // of install and upgrade
		Removed   []removedJSON          `json:"removed"`
		Deferred  []deferredJSON         `json:"deferred"`
		Kept      []keptJSON             `json:"kept"`
		Failed    []failedJSON           `json:"failed"`
	}
	installedVersionJSON struct {
		Name         string `json:"name"`
		Version      string `json:"version"`
		Already      bool   `json:"already"`
		Current      bool   `json:"activated"`
		ReusedBytes  int64  `json:"reused_bytes"`
		WrittenBytes int64  `json:"written_bytes"`
		ReadBytes    int64  `json:"read_bytes"`
	}
	removedJSON struct {
		Name      string `json:"name"`
		Version   string `json:"version"`
		Rule      string `json:"rule"`
		Reason    string `json:"reason"`
		Reclaimed int64  `json:"reclaimed"`
	}
	deferredJSON struct {
		Name      string        `json:"name"`
		Version   string        `json:"version"`
		Rule      string        `json:"rule"`
		Reason    string        `json:"reason"`
		Trashed   bool          `json:"trashed"`
		Processes []processJSON `json:"processes"`
	}
	keptJSON struct {
		Name      string        `json:"name"`
		Version   string        `json:"version"`
		Rule      string        `json:"rule"`
		Reason    string        `json:"reason"`
		Processes []processJSON `json:"processes"`
	}
	failedJSON struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Error   string `json:"error"`
	}
	processJSON struct {
		PID     int        `json:"pid"`
		Account string     `json:"account"`
		Command string     `json:"command"`
		Since   *time.Time `json:"since"`
		How     string     `json:"how"`
		Path    string     `json:"path"`
	}
)

func installedJSON(done *store.Installed) []installedVersionJSON {
	return []installedVersionJSON{{
		Name: done.Ref.Name, Version: done.Ref.Version,
		Already: done.Already, Current: done.Activated,
		ReusedBytes: done.Reused, WrittenBytes: done.Size - done.Reused, ReadBytes: done.Read,
	}}
}

// add appends what a collection did. The lists are there even when empty.
func (j *resultJSON) add(r gc.Result) {
	j.Removed = append([]removedJSON{}, j.Removed...)
	j.Deferred = append([]deferredJSON{}, j.Deferred...)
	j.Kept = append([]keptJSON{}, j.Kept...)
	j.Failed = append([]failedJSON{}, j.Failed...)
	for _, d := range r.Removed {
		j.Removed = append(j.Removed, removedJSON{d.Ref.Name, d.Ref.Version, string(d.Rule), d.Reason, d.Freed})
	}
	for _, d := range r.Deferred {
		j.Deferred = append(j.Deferred, deferredJSON{d.Ref.Name, d.Ref.Version, string(d.Rule), d.Reason, d.Trashed, processesJSON(d.Uses)})
	}
	for _, d := range r.Kept {
		j.Kept = append(j.Kept, keptJSON{d.Ref.Name, d.Ref.Version, string(d.Rule), d.Reason, processesJSON(d.Uses)})
	}
	for _, d := range r.Failed {
		j.Failed = append(j.Failed, failedJSON{d.Ref.Name, d.Ref.Version, d.Err.Error()})
	}
}

func processesJSON(uses []store.Use) []processJSON {
	list := make([]processJSON, 0, len(uses))
	for _, u := range uses {
		list = append(list, processJSON{u.PID, u.Account, u.Command, optionalTime(u.Since), string(u.How), u.Path})
	}
	return list
}

// optionalTime is nil for no time at all, which JSON writes as null.
func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

// printResult prints what a collection did, or would do. Its error is that of
// the versions that failed.
func (a *app) printResult(r gc.Result, dryRun bool) error {
	if a.json {
		var out resultJSON
		out.add(r)
		if err := a.printJSON(out); err != nil {
			return err
		}
		return failures(r)
	}
	return a.tellResult(r, dryRun)
}

// tellResult shows a person every version with the reason. Off a terminal it
// tells only what was done, because cron mails it; a dry run is asked for to
// be read in any case.
func (a *app) tellResult(r gc.Result, dryRun bool) error {
	var rows [][]string
	for _, d := range r.Removed {
		word := "removed"
		if dryRun {
			word = "would remove"
		}
		rows = append(rows, []string{word, d.Ref.String(), size(d.Freed), d.Reason})
	}
	if a.outTerminal || dryRun || a.verbose {
		for _, d := range r.Deferred {
			reason := d.Reason
			if len(d.Uses) > 0 {
				reason += ": " + strings.TrimPrefix((&store.InUseError{Uses: d.Uses}).Error(), "in use by ")
			}
			rows = append(rows, []string{"deferred", d.Ref.String(), "-", reason})
		}
		for _, d := range r.Kept {
			rows = append(rows, []string{"kept", d.Ref.String(), "-", d.Reason})
		}
	}
	if err := a.table(a.out, a.outTerminal, []string{"WHAT", "VERSION", "FREES", "WHY"}, rows); err != nil {
		return err
	}
	return failures(r)
}
