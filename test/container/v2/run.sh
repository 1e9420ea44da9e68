# What the virtual machine runs. Compiled code is kept between processes: in software emulation, stripping types costs seconds.
# With `follow` the kit serves there while its limits change: three minutes of a machine.
export NODE_COMPILE_CACHE=/tmp/compiled
if [ "$1" != follow ]; then exec sh test/container/v2/sizing.sh; fi
node test/container/v2/follow.ts warm-up &
sh test/container/v2/sizing.sh
wait
exec node test/container/v2/follow.ts
