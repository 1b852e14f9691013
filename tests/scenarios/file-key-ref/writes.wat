;; A core module of WASI preview 1: writes its second argument to the file that its first one names, in its first mount.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func $check (param $errno i32) (if (local.get $errno) (then (call $exit (local.get $errno)))))
  (func $length (param $text i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $text))
    (block $ends
      (loop $next
        (br_if $ends (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $end) (local.get $text)))
  (func (export "_start")
    (local $name i32)
    (call $check (call $sizes (i32.const 0) (i32.const 4)))
    (call $check (call $args (i32.const 64) (i32.const 1024)))
    (local.set $name (i32.load (i32.const 68)))
    ;; Made where there is none, for writing.
    (call $check (call $open (i32.const 3) (i32.const 0) (local.get $name) (call $length (local.get $name)) (i32.const 1)
      (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 8)))
    (i32.store (i32.const 16) (i32.load (i32.const 72)))
    (i32.store (i32.const 20) (call $length (i32.load (i32.const 72))))
    (call $check (call $write (i32.load (i32.const 8)) (i32.const 16) (i32.const 1) (i32.const 12)))))
