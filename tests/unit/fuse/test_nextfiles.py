"""``_nextfiles.c`` by itself: what it remembers of a directory, and what is listed now."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import unionfs.fuse

SOURCE = Path(unionfs.fuse.__file__).parent / "_nextfiles.c"

# A listing's entries end where memory does. Its files' numbers are 100 and their place.
PROGRAM = r"""
#include "%s"
#include <stdio.h>
#include <sys/mman.h>

#define PAGE 4096

static char names[64 * 4];
static struct listing listing = {.names = names};
static struct lent dir = {.node = 5, .layer = 1, .listing = &listing};
static struct lent file = {.parent = &dir, .layer = 1};
static struct lent_layer layer = {.fd = 1};

struct lent *lent_find(uint64_t node)
{
	if (node == dir.node)
		return &dir;
	file.node = node;
	file.name = names + (node - 100) * 4;
	return &file;
}

const struct lent_layer *lent_layer(unsigned number) { return number ? &layer : NULL; }
uint64_t lent_number(const struct lent_layer *in, uint64_t ino) { (void)in; return ino; }
uint64_t number_inode(uint64_t node) { return node; }
void lent_unfit(unsigned number) { (void)number; }
int lent_open(const struct lent *lent, unsigned number) { (void)lent, (void)number; return -1; }

static void list(size_t count, int is_forwards)
{
	char *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(two + PAGE, PAGE, PROT_NONE);
	listing.count = count;
	listing.entries = (struct entry *)(two + PAGE) - count;
	for (size_t i = 0; i < count; i++) {
		size_t number = is_forwards ? i : count - 1 - i;

		listing.entries[i] = (struct entry){100 + number, number * 4, 1, DT_REG, 3};
	}
	next_listed(dir.node);
}

int main(void)
{
	for (int number = 0; number < 64; number++)
		snprintf(names + number * 4, 4, "%%03d", number);
	list(64, 0);
	for (int number = 40; number-- > 0;) /* by the place, from the 24th on */
		next_read(100 + number);
	for (int number = 20; number < 40; number++) /* by number */
		next_read(100 + number);
	next_read(100);
	list(3, 1);
	while (next_work())
		;
	for (int number = 0; number < 3; number++)
		next_read(100 + number);
	return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no cc")
def test_a_directory_that_holds_less_than_it_did(tmp_path):
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(PROGRAM % SOURCE)
    include = [f"-I{sysconfig.get_path('include')}", f"-I{SOURCE.parent}", "-I/usr/include/fuse3"]
    subprocess.run(["cc", "-w", *include, "-o", program, source], check=True)
    assert subprocess.run([program], check=False).returncode == 0
