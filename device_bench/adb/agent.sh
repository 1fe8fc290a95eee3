# sh agent.sh VERB FOLDER …: what runs on a phone, with nothing but Android's own shell and tools.
verb=$1 folder=$2
shift 2

perform() { cmd power set-fixed-performance-mode-enabled "$1" 2>&1; }

# A process that has ended and that nobody asks about any more is still listed.
lives() { case "${1:+$(cat "/proc/$1/stat" 2>/dev/null)}" in '' | *') Z '*) return 1 ;; esac; }

# The mode has no query: off is how a phone comes, and what it is set to.
restore() { [ ! -e "$folder/changed" ] || { perform false >/dev/null; rm "$folder/changed"; }; }

# A group that has just been made may not be one yet.
end() { for each; do kill -9 "-$each" 2>/dev/null || kill -9 "$each" 2>/dev/null; done; }

stop() {
  [ -d "$folder" ] || return 0
  left=50
  while [ ! -e "$folder/groups" ] && lives "$(cat "$folder/watch")" && [ $left -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
  end $(cat "$folder/watch" "$folder/groups" 2>/dev/null)
  restore
  rm -rf "$folder"
}

case $verb in
start) # SECONDS COMMAND…: begin it, apart from who asks; to ask again begins nothing
  [ ! -d "$folder" ] || exit 0
  mkdir -p "$folder" || exit 1
  setsid sh "$0" watch "$folder" "$@" </dev/null >/dev/null 2>&1 &
  echo $! >"$folder/watch"
  ;;
watch)
  seconds=$1
  shift
  : >"$folder/changed"
  echo unsupported >"$folder/mode"
  if said=$(perform true); then
    echo applied >"$folder/mode"
  else
    case $said in *'Failed to set'*) echo failed >"$folder/mode" ;; esac
  fi
  setsid "$@" </dev/null >"$folder/out" 2>"$folder/err" &
  child=$!
  setsid sh -c 'sleep "$1"; : >"$2"; kill -9 "-$3"' sh "$seconds" "$folder/late" "$child" </dev/null >/dev/null 2>&1 &
  guard=$!
  echo "$child $guard" >"$folder/groups"
  wait "$child"
  status=$?
  end "$guard" "$child"
  restore
  echo "$status" >"$folder/status.part"
  mv "$folder/status.part" "$folder/status"
  ;;
wait) # HALF_SECONDS: how it is by then, or before if it ends
  left=$1 pause=0.1
  while [ ! -e "$folder/status" ] && lives "$(cat "$folder/watch")" && [ "$left" -gt 0 ]; do
    sleep $pause
    pause=0.5
    left=$((left - 1))
  done
  lives "$(cat "$folder/watch")" && state=running || state=lost
  [ -e "$folder/status" ] && state=ended
  [ -e "$folder/late" ] && state=late
  echo "$state $(cat "$folder/status" 2>/dev/null || echo -)"
  ;;
stop)
  stop
  ;;
remove) # FOLDER is a session's
  session=$folder
  for folder in "$session"/run-*; do stop; done
  rm -rf "$session"
  rmdir "${session%/*}" 2>/dev/null || :
  ;;
sweep) # FOLDER holds the sessions: those of yesterday were left by somebody who is gone
  find "$folder" -mindepth 1 -maxdepth 1 -type d -mtime +0 -exec sh "$0" remove {} \; 2>/dev/null
  ;;
esac
