;; A preview 1 command that grows a table by a thousand elements at a time until that is refused, and then ends with the
;; number of thousands that it has.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (table $table 0 funcref)
  (func (export "_start")
    (loop $again
      (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
    (call $exit (i32.div_u (table.size $table) (i32.const 1000)))))
