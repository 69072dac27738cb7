# A domain of vagrant-libvirt: `wanted` has its box, its settings by vagrant-libvirt's names, and the bridge and hardware
# address of its interface, but for one that is only to be removed.
def provide(machine, wanted)
  machine.vm.box = wanted["box"]
  if wanted["bridge"]
    machine.vm.network :public_network, type: "bridge", dev: wanted["bridge"], mac: wanted["mac"], auto_config: false
  end
  machine.vm.provider :libvirt do |libvirt|
    wanted["settings"].each { |key, value| libvirt.public_send("#{key}=", value) }
    libvirt.random model: "random"
    # Else it would wait for the lease of an address, which nodes do not have; an agent that is not there is asked once.
    libvirt.qemu_use_agent = true
    libvirt.mgmt_attach = false
    libvirt.graphics_type = "none"
  end
end
