;; A process that never ends and answers for itself (wit/pod/pod.wit): started from the second question on. Whoever asks before
;; that whether it is ready or alive asks too early, and is told so. It counts in a bucket, as each question is put to an
;; instance of its own.
(component
  (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
    (export "bucket" (type $bucket (sub resource)))
    (type $errors (variant (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $error (eq $errors)))
    (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))))
  (alias export $store "bucket" (type $bucket))
  (alias export $store "error" (type $error))
  (import "wasi:keyvalue/atomics@0.2.0-draft" (instance $atomics
    (alias outer 1 $bucket (type $outer-bucket))
    (export "bucket" (type $bucket (eq $outer-bucket)))
    (alias outer 1 $error (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (export "increment"
      (func (param "bucket" (borrow $bucket)) (param "key" string) (param "delta" u64) (result (result u64 (error $error)))))))

  (core module $libc
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (global.get $next))
      (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -16))))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $open (canon lower (func $store "open") (memory $memory) (realloc $realloc)))
  (core func $increment (canon lower (func $atomics "increment") (memory $memory) (realloc $realloc)))

  (core module $module
    (import "libc" "memory" (memory 1))
    (import "store" "open" (func $open (param i32 i32 i32)))
    (import "atomics" "increment" (func $increment (param i32 i32 i32 i64 i32)))
    (data (i32.const 1024) "startedstill asleepasked too early")
    ;; How often it was asked whether it has started, with so many times more.
    (func $count (param $more i64) (result i64)
      (call $open (i32.const 1024) (i32.const 0) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (call $increment (i32.load (i32.const 68)) (i32.const 1024) (i32.const 7) (local.get $more) (i32.const 80))
      (if (i32.load8_u (i32.const 80)) (then unreachable))
      (i64.load (i32.const 88)))
    ;; No, in the words of that place and length, before the second question.
    (func $answer (param $more i64) (param $why i32) (param $length i32) (result i32)
      (i32.store8 (i32.const 0) (i64.lt_s (call $count (local.get $more)) (i64.const 2)))
      (i32.store (i32.const 4) (local.get $why))
      (i32.store (i32.const 8) (local.get $length))
      (i32.const 0))
    (func (export "started") (result i32) (call $answer (i64.const 1) (i32.const 1031) (i32.const 12)))
    (func (export "other") (result i32) (call $answer (i64.const 0) (i32.const 1043) (i32.const 15)))
    (func (export "run") (result i32) (loop (br 0)) (unreachable)))
  (core instance $core (instantiate $module
    (with "libc" (instance $libc))
    (with "store" (instance (export "open" (func $open))))
    (with "atomics" (instance (export "increment" (func $increment))))))

  (func $started (result (result (error string)))
    (canon lift (core func $core "started") (memory $memory) (realloc $realloc)))
  (func $other (result (result (error string)))
    (canon lift (core func $core "other") (memory $memory) (realloc $realloc)))
  (func $run (result (result)) (canon lift (core func $core "run")))
  (instance $probes (export "started" (func $started)) (export "ready" (func $other)) (export "live" (func $other)))
  (instance $command (export "run" (func $run)))
  (export "k8w:pod/probes@0.1.0" (instance $probes))
  (export "wasi:cli/run@0.2.0" (instance $command)))
