# A machine of vagrant-lxc: `wanted` has its container's name, its box, and lines of its configuration.
def provide(machine, wanted)
  machine.vm.box = wanted["box"]
  machine.vm.provider :lxc do |lxc|
    lxc.container_name = wanted["container"]
    lxc.tmpfs_mount_size = nil
    wanted["config"].each { |key, value| lxc.customize key, value }
  end
end
