package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"berth/store"
	"berth/store/archive"
	"berth/store/source"
)

type packOptions struct {
	what   string
	output string
	level  int
}

func (a *app) packCommand() *cli.Command {
	var opt packOptions
	return command(&cli.Command{
		Name:      "pack",
		Usage:     "write a directory, an archive or a version as an indexed archive",
		ArgsUsage: "DIR|ARCHIVE|REF",
		Description: `The archive is zstd:chunked: an ordinary .tar.zst with a table of contents at
its end. Who knows the table's digest needs to read no more of it than what has
changed. What is printed are the lines for a channel's SHA256SUMS: the digests
of the archive and of its table. DIR has to have a slash in it: ./DIR.

Example: berth pack ./sniper -o sniper-2.0.tar.zst`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to `FILE`", Destination: &opt.output},
			&cli.IntFlag{Name: "level", Usage: "compress like zstd's level `N`, 1 to 19", Value: 9, Destination: &opt.level},
		},
		Action: func(c *cli.Context) error {
			var err error
			if opt.what, err = oneArg(c, "what to pack"); err != nil {
				return err
			}
			switch {
			case opt.output == "":
				return usageError("say where to write it: -o FILE")
			case opt.output == "-":
				return usageError("an archive is written to a file: -o FILE")
			case opt.level < 1 || opt.level > 19:
				return usageError("--level is 1 to 19")
			}
			return a.runPack(c.Context, opt)
		},
	})
}

type packJSON struct {
	File      string `json:"file"`
	Size      int64  `json:"size"`
	SHA256    string `json:"sha256"`
	TOCSHA256 string `json:"toc_sha256"`
	Members   int    `json:"members"`
}

func (a *app) runPack(ctx context.Context, opt packOptions) (err error) {
	// The rename would replace a device or a link, too.
	if info, err := os.Lstat(opt.output); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("cannot write %q: no regular file: %w", opt.output, fs.ErrExist)
	}
	pack, done, err := a.packer(ctx, opt)
	if err != nil {
		return err
	}
	defer done()
	// It appears under its name when it is whole.
	dir, name := filepath.Split(opt.output)
	part := filepath.Join(dir, fmt.Sprintf(".%s.%s", name, strings.ToLower(rand.Text()[:8])))
	out, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", opt.output, err)
	}
	defer os.Remove(part)
	defer out.Close()
	meter := a.meter(fmt.Sprintf("packing %+q", name), -1)
	sum := sha256.New()
	packed, err := pack(io.MultiWriter(out, sum, counter(meter.add)))
	meter.stop()
	if err != nil {
		return fmt.Errorf("cannot pack %q: %w", opt.what, err)
	}
	if err = out.Sync(); err == nil {
		err = os.Rename(part, opt.output)
	}
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", opt.output, err)
	}
	if packed.Sockets > 0 {
		a.note("left out: sockets (%d)", packed.Sockets)
	}
	j := packJSON{
		File: opt.output, Size: packed.Size, Members: packed.Members,
		SHA256: hex.EncodeToString(sum.Sum(nil)), TOCSHA256: hex.EncodeToString(packed.TOC[:]),
	}
	if a.json {
		return a.printJSON(j)
	}
	// As sha256sum(1) writes names that have them.
	mark, listed := "", strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
	if listed != name {
		mark = `\`
	}
	if _, err := fmt.Fprintf(a.out, "%s%s  %s\n%s%s  %s.toc\n", mark, j.SHA256, listed, mark, j.TOCSHA256, listed); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}

// packer finds what is to be packed. done lets it go.
func (a *app) packer(ctx context.Context, opt packOptions) (pack func(io.Writer) (archive.Packed, error), done func(), err error) {
	if !isSource(opt.what) {
		pack, done, err := a.versionPacker(ctx, opt)
		return pack, done, orFile(opt.what, err)
	}
	artifact, err := source.File(opt.what)
	if err != nil {
		return nil, nil, err
	}
	if artifact.Directory != "" && within(artifact.Directory, filepath.Dir(opt.output)) {
		return nil, nil, usageError(fmt.Sprintf("%q lies in the directory that is to be packed", opt.output))
	}
	return func(w io.Writer) (archive.Packed, error) {
		if artifact.Directory != "" {
			return archive.PackDirectory(ctx, artifact.Directory, w, opt.level)
		}
		r, err := artifact.Open(ctx)
		if err != nil {
			return archive.Packed{}, err
		}
		defer r.Close()
		return archive.Repack(ctx, r, w, opt.level)
	}, func() {}, nil
}

// versionPacker holds the version meanwhile.
func (a *app) versionPacker(ctx context.Context, opt packOptions) (pack func(io.Writer) (archive.Packed, error), done func(), err error) {
	ref, err := store.ParseRef(opt.what)
	if err != nil {
		return nil, nil, err
	}
	var held *store.Hold
	err = a.inFirst(ref, func(s *store.Store) (err error) {
		held, err = s.Hold(ctx, ref)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return func(w io.Writer) (archive.Packed, error) {
		return archive.PackDirectory(ctx, filepath.Dir(held.Files()), w, opt.level, "files", "metadata")
	}, func() { held.Release() }, nil
}

// within tells whether the directory dir is below top, or the same: however
// they are named.
func within(top, dir string) bool {
	want, err := os.Stat(top)
	if err != nil {
		return false
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return false
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return false
	}
	for {
		if info, err := os.Stat(dir); err == nil && os.SameFile(want, info) {
			return true
		}
		if dir == filepath.Dir(dir) {
			return false
		}
		dir = filepath.Dir(dir)
	}
}

// counter is a writer that only counts.
type counter func(int64)

func (c counter) Write(p []byte) (int, error) {
	c(int64(len(p)))
	return len(p), nil
}
