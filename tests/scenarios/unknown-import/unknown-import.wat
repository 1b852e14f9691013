;; A component that imports an interface of somebody else.
(component
  (import "acme:rockets/launch@1.0.0" (instance (export "ignite" (func)))))
