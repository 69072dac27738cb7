# A server of vagrant-openstack-provider: `wanted` has what it is told, by key.
def provide(machine, wanted)
  machine.ssh.username = "root"
  # Else it would make a keypair for each server, and leave it where the server goes by other ways.
  machine.ssh.insert_key = false
  machine.vm.provider :openstack do |openstack|
    wanted.each do |key, value|
      told = (key == "networks") ? value.map { |one| one.transform_keys(&:to_sym) } : value
      openstack.public_send("#{key}=", told)
    end
  end
end
