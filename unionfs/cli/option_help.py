"""What a mount's user may ask for with `-o`, for the help texts; `options` has the meaning."""

EXPLAINED = """\
  ro                    allow no changes
  allow_other           let other users in; allow_root: only root (root's default: allow_other)
  suid, dev             let set-ID programs and device files work: in root's mounts only
  noexec                let no program run
  atime                 keep access times
  volatile              sync nothing: faster, and a crash of the machine may lose it all
  redirect_dir=off      renaming a directory of a lower layer fails with EXDEV
  xattr_permissions=2   keep owners and modes in user.containers.override_stat (1: security.…)
  uidmapping=MAP        show other owners than on disk, :DISK:SHOWN:SIZE… (also gidmapping=)
  squash_to_uid=UID     show all files as this user's (squash_to_gid=; squash_to_root: root's)
  noacl, noxattrs       let permission bits alone count; have no attributes at all
  context=LABEL         give all files this SELinux label
  static_nlink          show one link of every directory
  noxattrinfo           answer no user.unionfs.* attributes about layers
  data=passthrough      let the kernel read and write files by itself: root's mounts, from Linux
                        6.9; all of a read-only mount, and of others those in the upper, where
                        opening takes longer (cached, auto: through its cache; the default)
  record                let unionfs trace see every open, read and listing; slower
  readahead=KIB         let the kernel read so far ahead, in mounts of root (auto, off: and no
                        file before it is asked for)
  merged_index=off      read the layers of an image, although what they show is written down (auto)
  lend=off              answer for lower directories without the C extension (auto)
  spin=MICROSECONDS     wait awake for the next request (off, auto; default: auto)
"""
