# sh enter.sh ROOT COMMAND: what a shell on the phone sees: programs, processes and devices of this machine, and all else
# from the folder ROOT. In a mount namespace of its own.
root=$1
for each in usr proc dev; do mkdir -p "$root/$each"; mount --rbind "/$each" "$root/$each" || exit 125; done
for each in bin sbin lib lib32 lib64; do
  [ -e "/$each" ] && [ ! -e "$root/$each" ] && ln -s "usr/$each" "$root/$each"
done
# A phone has no Python, unless a test gives it one, with the folders that it needs.
if [ -e "$root/system/binds" ]; then
  while read -r each; do mkdir -p "$root/$each" && mount --rbind "$each" "$root/$each" || exit 125; done <"$root/system/binds"
else
  for each in "$root"/usr/bin/python3*; do mount --bind /dev/null "$each" 2>/dev/null; done
fi
cd "$root" || exit 125
export PATH=/system/bin:/usr/sbin:/usr/bin:/sbin:/bin ANDROID_ROOT=/system HOME=/
unset TMPDIR
exec chroot "$root" /bin/sh -c "$2"
