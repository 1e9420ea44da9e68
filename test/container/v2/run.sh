# What the virtual machine runs. Compiled code is kept between processes: in software emulation, stripping types costs seconds.
export NODE_COMPILE_CACHE=/tmp/compiled
node test/container/v2/follow.ts warm-up &
sh test/container/v2/sizing.sh
wait
exec node test/container/v2/follow.ts
